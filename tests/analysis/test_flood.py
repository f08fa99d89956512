"""Floods: what is chosen stands for all, each kind is judged, and nothing is counted twice or lost."""

import json
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag import analyze
from pcapdiag.analysis import candidates, flood
from pcapdiag.analysis.flood import AttemptSieve, choose, mixed, scale_of
from pcapdiag.base.codes import ConnState
from pcapdiag.base.columns import CONNECTIONS
from tests import floods

FEW = 60


def rows_of(ports, *, n_exchanges=0):
    rows = CONNECTIONS.empty(len(ports))
    rows["conn"] = np.arange(len(ports))
    rows["resp_port"] = ports
    rows["conn_state"] = ConnState.S0
    rows["n_exchanges"] = n_exchanges
    return rows


@pytest.fixture
def small(monkeypatch):
    """Bounds so low that a test's flood is one."""
    for name, value in (("_ALL_KEPT", 20), ("_FIRST", 5), ("_STRIDE", 4)):
        monkeypatch.setattr(flood, name, value)


def sift(batches):
    sieve = AttemptSieve()
    kept = [sieve.sift(rows).copy() for rows in batches]
    return np.concatenate([*kept, *sieve.finish()]), sieve


@given(
    st.lists(st.lists(st.integers(1, 4), max_size=80), min_size=1, max_size=5),
    st.integers(1, 40),
)
def test_the_sieve_counts_every_attempt_at_its_endpoint(ports, most_keys):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("_ALL_KEPT", 20), ("_FIRST", 5), ("_STRIDE", 4), ("_MOST_KEYS", most_keys)):
            patch.setattr(flood, name, value)
        kept, sieve = sift([rows_of(batch) for batch in ports])
    n_all = sum(map(len, ports))
    assert len(kept) + sieve.n_dropped == n_all
    assert len(kept) + int(np.abs(kept["n_alike"].astype(np.int64)).sum()) == n_all
    if most_keys > 4:
        counted = Counter()
        for port, n_alike in zip(kept["resp_port"].tolist(), kept["n_alike"].tolist(), strict=True):
            counted[port] += 1 + n_alike
        assert counted == Counter(port for batch in ports for port in batch)


def test_what_carried_requests_passes_the_sieve(small):  # noqa: ARG001 - bounds
    rows = rows_of([1] * 500, n_exchanges=1)
    kept, sieve = sift([rows])
    assert (kept == rows).all()
    assert sieve.n_dropped == 0


def test_an_open_sieve_lets_all_pass(small):  # noqa: ARG001 - bounds
    sieve = AttemptSieve(is_open=True)
    assert len(sieve.sift(rows_of([1] * 500))) == 500
    assert not list(sieve.finish())


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 1000), st.integers(1, 9)), min_size=1), st.integers(1, 50))
def test_those_chosen_stand_for_all_and_each_kind_is_among_them(members, most):
    kinds, times, weights = (np.array(column, dtype=np.int64) for column in zip(*members, strict=True))
    choice = choose([kinds.astype(np.uint64)], times, weights, most)
    assert choice.stands_for.sum() == weights.sum()
    assert choice.chosen.tolist() == sorted(set(choice.chosen.tolist()))
    assert set(kinds[choice.chosen].tolist()) == set(kinds.tolist())
    for kind in set(kinds.tolist()):
        mine = kinds[choice.chosen] == kind
        assert choice.stands_for[mine].sum() == weights[kinds == kind].sum()
    assert len(choice.chosen) <= max(most + 3 * len(set(kinds.tolist())), len(members) if len(members) <= most else 0)


def test_kinds_that_leave_no_room_give_way_to_coarser_ones():
    n = 1000
    fine, coarse = np.arange(n).astype(np.uint64), (np.arange(n) % 2).astype(np.uint64)
    choice = choose([fine, coarse], np.arange(n), np.ones(n, dtype=np.int64), 40)
    assert len(choice.chosen) <= 46
    assert {int(kind) for kind in coarse[choice.chosen]} == {0, 1}


@given(st.lists(st.integers(-(2**62), 2**62), min_size=1))
def test_hashes_tell_numbers_apart(numbers):
    values = np.array(numbers)
    assert len(set(mixed(values).tolist())) == len(set(numbers))


def test_times_are_told_apart_by_a_fifth():
    scale = scale_of(np.array([-1, 0, 1_000_000, 1_050_000, 1_300_000, 2_000_000_000]))
    assert scale[0] == -1
    assert scale[2] == scale[3] or scale[3] - scale[2] == 1
    assert scale[2] < scale[4] < scale[5]


MIXED = (
    (floods.CLOSED, 3000),
    (floods.RESET, 1500),
    (floods.RACED, 40),
    (floods.SILENT, 700),
    (floods.REFUSED, 900),
    (floods.CUT, 25),
    (floods.ANSWERED, 500),
)


@pytest.fixture(scope="module")
def mixed_flood(tmp_path_factory):
    return floods.write_flood(tmp_path_factory.mktemp("flood") / "mixed.pcap", MIXED, each_ns=400_000)


def told(report):
    counts = Counter()
    for finding in report["findings"]:
        counts[finding["code"], finding["subject"]] += finding["count"]
    return counts


@pytest.mark.slow
def test_a_flood_is_counted_as_if_each_failure_had_been_judged(mixed_flood, monkeypatch):
    whole = analyze(mixed_flood, judge_all=True).to_json()
    monkeypatch.setattr(candidates, "MOST_JUDGED", 400)
    for name, value in (("_ALL_KEPT", 100), ("_FIRST", 50), ("_STRIDE", 8)):
        monkeypatch.setattr(flood, name, value)
    some = analyze(mixed_flood).to_json()
    assert told(some) == told(whole)
    n_failed = sum(n for kind, n in MIXED if kind is not floods.ANSWERED)
    assert whole["totals"]["unanswered"] + whole["totals"]["truncated"] == n_failed
    for name in ("unanswered", "failed_connects", "truncated", "connections", "exchanges"):
        assert some["totals"][name] == whole["totals"][name], name
    listed = sum(len(f["occurrences"]) for f in some["findings"])
    assert listed < 800
    for finding in some["findings"]:
        assert sum(o["stands_for"] for o in finding["occurrences"]) == finding["count"]
    assert [n["code"] for n in some["notes"]].count("failures-chosen") == 1
    assert "failures-chosen" not in [n["code"] for n in whole["notes"]]
    assert [u["unanswered"] for u in some["upstreams"]] == [u["unanswered"] for u in whole["upstreams"]]


@pytest.mark.slow
def test_a_scan_of_very_many_ports_is_few_findings(tmp_path):
    path = floods.write_flood(tmp_path / "scan.pcap", [(floods.REFUSED, 3000), (floods.ANSWERED, 20)], ports=2500)
    report = analyze(path).to_json()
    assert sum(f["count"] for f in report["findings"]) == 3000
    assert len(report["findings"]) <= flood.MOST_ENDPOINTS + 1
    assert {f["subject"] for f in report["findings"]} == {"several other endpoints", "10.10.0.0"}
    assert len(report["upstreams"]) <= 1000
    assert len(json.dumps(report)) < 10 << 20


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["SILENT", "CLOSED"])
def test_memory_and_report_of_a_flood_are_bounded(tmp_path, kind):
    """A tenth of the million that is measured by hand: what each costs more than its row would show here, too."""
    path = floods.write_flood(tmp_path / "flood.pcap", [(getattr(floods, kind), 100_000)])
    code = (
        "import json, pathlib, re, sys\nfrom pcapdiag import analyze\n"
        "text = len(json.dumps(analyze(sys.argv[1]).to_json()))\n"
        # What getrusage tells begins with the process that started this one.
        "status = pathlib.Path('/proc/self/status').read_text()\n"
        "print(text, int(re.search(r'VmHWM:\\s+(\\d+) kB', status)[1]) << 10)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    n_text, peak = map(int, done.stdout.split())
    assert n_text < 10 << 20
    assert peak < 500 << 20


@pytest.mark.slow
def test_beyond_a_thousand_occurrences_some_are_listed_and_all_are_counted(tmp_path):
    path = floods.write_flood(tmp_path / "flood.pcap", [(floods.CLOSED, 2500)])
    some, whole = analyze(path).to_json(), analyze(path, judge_all=True).to_json()
    (finding,), (all_of_it,) = some["findings"], whole["findings"]
    assert finding["count"] == all_of_it["count"] == len(all_of_it["occurrences"]) == 2500
    assert 900 <= len(finding["occurrences"]) <= 1000
    assert sum(o["stands_for"] for o in finding["occurrences"]) == 2500
    frames = [o["request_frame"] for o in all_of_it["occurrences"]]
    assert finding["occurrences"][0]["request_frame"] == frames[0]
    assert finding["occurrences"][-1]["request_frame"] == frames[-1]


@pytest.mark.slow
def test_one_refusal_of_another_distance_in_a_flood_of_them_is_one(tmp_path):
    """Who sent a refusal is seen by its TTL alone; found when one was told as 640."""
    foreign = tuple(sent._replace(ttl=57) if sent.by_server else sent for sent in floods.REFUSED)
    kinds = [(floods.REFUSED, 9000), (foreign, 1), (floods.ANSWERED, 50)]
    report = analyze(floods.write_flood(tmp_path / "flood.pcap", kinds)).to_json()
    assert sorted(f["count"] for f in report["findings"] if f["code"] == "PD301") == [1, 9000]


def test_attempts_that_an_icmp_error_quotes_pass_the_sieve(small):  # noqa: ARG001 - bounds
    rows = rows_of([1] * 500)
    rows["orig_port"] = np.arange(500)
    told = flood.ends_of(rows[[101, 333]])
    sieve = AttemptSieve(quoted=lambda: told)
    kept = np.concatenate([sieve.sift(rows), *sieve.finish()])
    assert {101, 333} <= set(kept["orig_port"].tolist())
    assert set(kept["n_alike"][np.isin(kept["orig_port"], [101, 333])].tolist()) == {0}
    assert len(kept) + int(np.abs(kept["n_alike"]).sum()) == 500
