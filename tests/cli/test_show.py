"""show: the tables behind the verdict, one command away."""

import csv
import io
import json

import pandas as pd
import pytest

from tests.conftest import ROOT

RACE = ROOT / "captures" / "idle_close_race_ipv6" / "proxy.pcap"
HEALTHY = ROOT / "captures" / "healthy_keepalive" / "proxy.pcap"
TABLES = ["frames", "segments", "connections", "exchanges", "closings"]


@pytest.fixture(scope="module")
def rows(invoke):
    """Return a function that gives a table of a capture as dicts."""

    def rows(table, capture=RACE, *options):
        done = invoke("show", table, capture, "--format", "json", *options)
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)

    return rows


def test_the_idle_gap_before_every_request_is_one_command(invoke, rows):
    done = invoke("show", "exchanges", RACE, "--format", "csv")
    table = list(csv.DictReader(io.StringIO(done.stdout)))
    report = json.loads(invoke("analyze", RACE, "--format", "json").stdout)
    assert len(table) == report["totals"]["exchanges"] == len(rows("exchanges"))
    gaps = {(r["orig"], r["request_frame"]): r["idle_before_ns"] for r in table}
    lost = [o for f in report["findings"] for o in f["occurrences"] if o["depth"] >= 0]
    assert len(lost) == 8
    for occurrence in lost:
        assert gaps[occurrence["orig"], str(occurrence["request_frame"])] == str(occurrence["idle_before_ns"])


def test_every_frame_is_shown_once_with_the_numbers_of_tshark(rows, tshark):
    shown = [(r["frame"], r["ts_ns"], r["payload_len"]) for r in rows("frames") if r["kind"] == "TCP"]
    fields = tshark(RACE, "frame.number", "frame.time_epoch", "tcp.len", display_filter="tcp")
    expected = [(int(n), round(float(t.split(".")[0])) * 10**9 + int(t.split(".")[1]), int(p)) for n, t, p in fields]
    assert shown == expected


def test_segments_are_the_tcp_frames_with_one_fate_each(rows):
    segments = rows("segments")
    assert [s["frame"] for s in segments] == [r["frame"] for r in rows("frames") if r["kind"] == "TCP"]
    assert all(s["fate"] for s in segments)


def test_connections_and_closings_name_each_other(rows):
    connections = {c["uid"]: c for c in rows("connections")}
    closings = rows("closings")
    assert len(connections) == len(rows("connections"))
    assert closings
    for closing in closings:
        assert connections[closing["uid"]]["closing_kind"] == closing["closing_kind"]


@pytest.mark.parametrize("table", TABLES)
def test_all_formats_hold_the_same_rows(invoke, rows, table, tmp_path):
    expected = rows(table)
    text = invoke("show", table, RACE, "--format", "csv").stdout
    assert len(list(csv.DictReader(io.StringIO(text)))) == len(expected)
    assert len(invoke("show", table, RACE).stdout.splitlines()) == len(expected) + 1
    target = tmp_path / "t.parquet"
    assert invoke("show", table, RACE, "--format", "parquet", "-o", target).returncode == 0
    assert pd.read_parquet(target).to_dict("records") == expected


@pytest.mark.parametrize("table", TABLES)
def test_the_table_for_people_fits_a_wide_terminal(invoke, table):
    assert max(map(len, invoke("show", table, HEALTHY).stdout.splitlines())) <= 160


def test_where_and_limit_choose_rows(rows):
    lost = rows("exchanges", RACE, "--where", "outcome == 'unanswered'")
    assert len(lost) == 8
    assert rows("exchanges", RACE, "--where", "outcome == 'unanswered'", "--limit", "3") == lost[:3]
    assert rows("frames", RACE, "--limit", "0") == []
    assert rows("exchanges", RACE, "--where", "depth > 1000") == []


def test_rows_and_columns_are_those_that_were_asked_for(invoke, rows):
    done = invoke(
        *("show", "exchanges", RACE, "--upstream", "2001:db8:1::2", "--sort", "-idle_before", "--limit", "3"),
        *("--columns", "resp,idle_before,outcome", "--where", "idle_before >= 1s", "--format", "csv"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    expected = [r for r in rows("exchanges") if r["resp"].startswith("[2001:db8:1::2]:") and r["idle_before_ns"] >= 1e9]
    expected.sort(key=lambda r: -r["idle_before_ns"])
    lines = [f"{r['resp']},{r['idle_before_ns']},{r['outcome']}" for r in expected[:3]]
    assert len(lines) == 3
    assert done.stdout.splitlines() == ["resp,idle_before_ns,outcome", *lines]
    people = invoke("show", "exchanges", RACE, "--columns", "resp,idle_before", "--limit", "1").stdout
    assert people.splitlines()[0].split() == ["resp", "idle", "before"]


def test_frames_of_an_upstream_are_those_in_both_directions(rows):
    shown = rows("frames", RACE, "--upstream", "[2001:db8:1::2]:80")
    every = [r for r in rows("frames") if "[2001:db8:1::2]:80" in (r["src"], r["dst"])]
    assert shown == every
    assert {r["src"] == "[2001:db8:1::2]:80" for r in shown} == {True, False}


def test_an_upstream_that_is_nowhere_is_said(invoke):
    done = invoke("show", "exchanges", RACE, "--upstream", "10.9.9.9")
    assert (done.returncode, done.stdout) == (2, "")
    assert "10.9.9.9" in done.stderr


@pytest.mark.parametrize("option", [("--columns", "outcom"), ("--sort", "outcom"), ("--where", "outcom == 'answered'")])
def test_a_mistyped_column_is_said_before_anything_is_read(invoke, option):
    done = invoke("show", "exchanges", "/no/such.pcap", *option)
    assert done.returncode == 2
    assert done.stderr.endswith("did you mean outcome?\n")


@pytest.mark.parametrize("table", TABLES)
def test_nothing_missing_is_shown_as_a_number(invoke, rows, table):
    text = invoke("show", table, RACE, "--format", "csv").stdout
    shown = list(csv.DictReader(io.StringIO(text)))
    for told, row in zip(shown, rows(table), strict=True):
        assert [name for name in row if row[name] == -1 and told[name]] == []
        assert "-1" not in told.values()
    assert any(-1 in row.values() for row in rows(table)), "else this says nothing"
    assert "-1" not in invoke("show", table, RACE).stdout.split()


def test_a_table_without_rows_is_a_header(invoke):
    done = invoke("show", "exchanges", RACE, "--format", "csv", "--where", "depth > 1000")
    assert done.returncode == 0
    assert done.stdout.startswith("request_frame,")
    assert done.stdout.count("\n") == 1
