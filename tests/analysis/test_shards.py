"""A capture read in shards says what it says when one process reads it."""

import pickle
from pathlib import Path

import numpy as np
import pytest

import pcapdiag
from pcapdiag.analysis.build import build_analysis, read_shard
from pcapdiag.analysis.shards import read_same
from pcapdiag.engine.capture.series import group_captures
from pcapdiag.engine.tcp.tracker import Shard

SEED = 0x2545F491
CASES = sorted(p.parent for p in (Path(__file__).parents[2] / "captures").glob("*/proxy.pcap"))


def grouped(paths):
    return group_captures(list(map(str, paths)))


def read_in_shards(paths, n_shards, folder=""):
    return [
        read_shard(grouped(paths), Shard(number, n_shards, SEED), folder=folder, with_digest=True)
        for number in range(n_shards)
    ]


def by_connection(table):
    """Rows ordered by connection, then as they come; texts lie elsewhere in the store."""
    frame = table.to_frame().drop(columns=["text_offset", "server_offset"], errors="ignore")
    return frame.sort_values("conn", kind="stable").reset_index(drop=True)


def check_same(paths, n_shards, folder="", **options):
    whole = pcapdiag.analyze(*paths, with_hashes=True, **options)
    shards = read_in_shards(paths, n_shards, folder)
    assert read_same(shards)
    joined = pcapdiag.analyze(*paths, with_hashes=True, shards=shards, **options)
    assert joined.to_json() == whole.to_json()
    for name in ("connections", "exchanges", "key_segments"):
        one, other = (by_connection(getattr(result.analysis, name)) for result in (whole, joined))
        assert one.equals(other), name
    return shards


@pytest.mark.parametrize("case", CASES, ids=lambda p: p.name)
def test_shards_give_the_report_of_one_process(case):
    logs = {name: [case / f"{kind}.log"] for kind, name in (("error", "error_logs"), ("access", "access_logs"))}
    check_same([case / "proxy.pcap"], 3, **{name: paths for name, paths in logs.items() if paths[0].exists()})


@pytest.mark.lab
@pytest.mark.compiled_only
def test_shards_give_the_report_of_one_process_for_the_lab(lab):
    paths = sorted(lab.glob("*/proxy.pcap"))
    assert paths
    for path in paths:
        check_same([path], 2, error_logs=[path.parent / "proxy" / "error.log"])


def test_several_captures_and_a_file_for_the_tables(tmp_path):
    folder = tmp_path / "shards"
    shards = check_same([case / "proxy.pcap" for case in CASES[:4]], 4, str(folder))
    files = sorted(folder.iterdir())
    assert len(files) == 4
    assert all(path.stat().st_mode & 0o077 == 0 for path in (folder, *files))
    for shard in shards:
        shard.discard()
    assert list(folder.iterdir()) == []


def test_texts_and_rows_survive_the_way_between_processes():
    paths = [CASES[0] / "proxy.pcap"]
    shards = pickle.loads(pickle.dumps(read_in_shards(paths, 2)))  # noqa: S301 - as pools do
    joined = build_analysis((), shards=shards)
    whole = build_analysis(grouped(paths), with_digest=True)
    targets = [{loss.target for loss in a.losses} | {u.server_field for u in a.upstreams} for a in (whole, joined)]
    assert targets[0] == targets[1]
    assert joined.captures == whole.captures


def test_each_connection_is_in_one_shard_and_the_shares_are_alike(lab):
    shards = read_in_shards([lab / "a_big" / "proxy.pcap"], 4)
    counts = np.array([shard.n_rows[0] for shard in shards])
    assert counts.sum() == len(pcapdiag.analyze(lab / "a_big" / "proxy.pcap").analysis.connections)
    assert counts.min() > counts.mean() / 3


def test_a_file_that_grew_between_two_shards_is_noticed(tmp_path):
    path = tmp_path / "growing.pcap"
    data = (CASES[0] / "proxy.pcap").read_bytes()
    path.write_bytes(data[: len(data) // 2])
    first = read_shard(grouped([path]), Shard(0, 2, SEED))
    path.write_bytes(data)
    assert not read_same([first, read_shard(grouped([path]), Shard(1, 2, SEED))])


def test_rows_that_are_cut_short_are_an_error(tmp_path):
    shards = read_in_shards([CASES[0] / "proxy.pcap"], 2, str(tmp_path))
    path = Path(shards[1].content)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(OSError, match="holds 100 bytes"):
        build_analysis((), shards=shards)
