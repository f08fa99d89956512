"""``pcapdiag history``: what changed, for people and for programs."""

import csv
import io
import json
import re

import pytest

from tests.nightly.scan import places

pytestmark = pytest.mark.compiled_only


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Return a store of three days: one finding grows worse, one goes, one is new."""
    work = tmp_path_factory.mktemp("history")
    days = {"10.9.0.1": (2, 2, 12), "10.9.0.2": (8, 8, 0), "10.9.0.3": (0, 0, 2)}
    for upstream, races in days.items():
        for day, n in enumerate(races):
            path = work / "captures" / f"{upstream.replace('.', 'x')}_{'abc'[day]}" / "proxy.pcap"
            places.capture(path, races=n, answered=20, at_s=86_400 * day, resp=upstream)
    places.scan(work / "captures", work / "store.db")
    return work / "store.db"


def test_people_see_what_changed_first(cli, store):
    done = cli("history", "--store", store)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "2023-11-14 to 2023-11-16: 1 new, 1 worse, 1 gone"
    assert re.fullmatch(r"2023-11-16: 14 of \d+ requests failed \([\d.]+ %\)", lines[1])
    names = ["state", "code", "where", "failed by night", "on", "failed", "found", "failed in all", "first", "last"]
    assert re.split(r" {2,}", lines[3]) == names
    assert [line.split()[:3] for line in lines[4:7]] == [
        ["new", "PD101", "10.9.0.3:80"],
        ["worse", "PD101", "10.9.0.1:80"],
        ["gone", "PD101", "10.9.0.2:80"],
    ]
    assert lines[4].split()[3:] == ["▁▁█", "2023-11-16", "2", "2", "2", "2023-11-16", "2023-11-16"]
    assert lines[6].split()[3:] == ["██▁", "2023-11-16", "0", "0", "16", "2023-11-14", "2023-11-15"]


def test_every_column_has_its_name_above_it(invoke, store):
    lines = invoke("history", "--store", store).stdout.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("upstream"))
    at = lines[start].index("race per day")
    assert len(lines) == start + 4
    for line in lines[start + 1 :]:
        cells = re.split(r" {2,}", line)
        assert len(cells) == len(re.split(r" {2,}", lines[start]))
        assert line[at - 1] == " "
        assert line[at] != " "


def test_json_holds_findings_with_their_days_and_the_trends(invoke, store):
    done = invoke("history", "--store", store, "--format", "json")
    content = json.loads(done.stdout)
    assert content["states"] == {"new": 1, "ongoing": 0, "worse": 1, "gone": 1, "quiet": 0}
    worse = next(f for f in content["findings"] if f["state"] == "worse")
    assert [(d["day"], d["count"]) for d in worse["days"]] == [
        ("2023-11-14", 2),
        ("2023-11-15", 2),
        ("2023-11-16", 12),
    ]
    assert worse["first_seen"].startswith("2023-11-14T")
    upstream = [u for u in content["upstreams"] if u["endpoint"] == "10.9.0.1:80"]
    assert [(u["day"], u["lost"]) for u in upstream] == [("2023-11-14", 2), ("2023-11-15", 2), ("2023-11-16", 12)]
    assert [(c["day"], c["count"]) for c in content["codes"] if c["code"] == "PD101"] == [
        ("2023-11-14", 10),
        ("2023-11-15", 10),
        ("2023-11-16", 14),
    ]
    assert content["scans"][0]["places"]


@pytest.mark.parametrize("table", ["findings", "upstreams", "codes", "scans"])
def test_csv_is_one_table(invoke, store, table):
    done = invoke("history", "--store", store, "--format", "csv", "--table", table)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    expected = json.loads(invoke("history", "--store", store, "--format", "json").stdout)[table]
    assert len(rows) == len(expected) > 0
    assert set(expected[0]) - {"days"} == set(rows[0])


def test_what_was_asked_for_is_shown_alone(invoke, store):
    def subjects(*options):
        content = json.loads(invoke("history", "--store", store, "--format", "json", *options).stdout)
        return [finding["subject"] for finding in content["findings"]]

    assert subjects("--state", "new", "--state", "gone") == ["10.9.0.3:80", "10.9.0.2:80"]
    assert subjects("--upstream", "10.9.0.1") == ["10.9.0.1:80"]
    assert subjects("--code", "PD2") == []
    assert subjects("--since", "2023-11-17") == []


def test_an_empty_table_has_its_columns(invoke, store):
    done = invoke("history", "--store", store, "--format", "csv", "--code", "PD9")
    assert done.stdout.splitlines()[0].startswith("identifier,code,name,")
    assert len(done.stdout.splitlines()) == 1


def test_a_store_that_is_not_there_is_an_error_and_none_is_made(invoke, tmp_path):
    done = invoke("history", "--store", tmp_path / "store.db")
    assert (done.returncode, done.stdout) == (2, "")
    assert "run `pcapdiag scan` first" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_date_that_is_none_is_refused(invoke, store):
    done = invoke("history", "--store", store, "--since", "yesterday")
    assert done.returncode == 2
    assert "write 2026-11-20" in done.stderr


def test_csv_leaves_empty_what_was_not_measured(invoke, store):
    done = invoke("history", "--store", store, "--format", "csv", "--table", "upstreams")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    measured = [cell for row in rows for key, cell in row.items() if key.endswith("_ns") or key.startswith("risk_")]
    assert "" in measured
    assert all(not cell or float(cell) >= 0 for cell in measured)
    assert all(cell.isdecimal() for row in rows for key, cell in row.items() if cell and key.endswith("_ns"))
