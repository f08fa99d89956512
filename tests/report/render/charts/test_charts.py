"""Charts: every failure is drawn or counted, data stay data, the same incident gives the same picture."""

import dataclasses
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import numpy as np
import pytest

import pcapdiag
from pcapdiag.base.codes import ClosingKind, Direction, Outcome
from pcapdiag.base.columns import CONNECTIONS, EXCHANGES
from pcapdiag.base.tables import Table
from pcapdiag.report.render.charts import CSS, NARROW_PX, charts
from pcapdiag.report.render.charts.idle_gaps import GAP_LABEL, MOST_CALM, MOST_MARKED
from pcapdiag.report.render.charts.scene import clock_text
from tests.conftest import ROOT
from tests.report import builders

ALSO_TESTS = ("cascade", "chart", "closings", "timeline")

pytestmark = pytest.mark.compiled_only

CASE = ROOT / "captures" / "idle_close_race_65s"
S = builders.S


@pytest.fixture(scope="module")
def race():
    return pcapdiag.analyze(
        CASE / "proxy.pcap",
        error_logs=[CASE / "error.log"],
        access_logs=[CASE / "access.log"],
        proxy_conf=CASE / "nginx.conf",
    )


@pytest.fixture(scope="module")
def made(race):
    return charts(race.analysis, race.report)


def marks(chart, kind):
    return [tip for tip in chart.tips if f", {kind}" in tip.text]


def losses(occurrences):
    connection = {"conn": 0}
    return tuple(
        SimpleNamespace(
            is_connect=False,
            depth=o.depth,
            connection=SimpleNamespace(uid=o.uid, resp=None, **connection),
            request_ts_ns=o.request_ts_ns,
            retransmissions=0,
            icmp=(),
            keys={},
            stands_for=1,
        )
        for o in occurrences
    )


def incident(n_exchanges, n_lost):
    """Return an analysis and its report: so many requests, one each millisecond, and so many of them lost."""
    rows = builders.exchange_rows(n_exchanges)
    rng = np.random.default_rng(7)
    rows["request_ts_ns"] = builders.T0 + np.arange(n_exchanges) * builders.MS
    rows["idle_before_ns"] = (10 ** rng.uniform(6, 9.3, n_exchanges)).astype(np.int64)
    rows["outcome"] = Outcome.ANSWERED
    rows["outcome"][:n_lost] = Outcome.UNANSWERED
    rows["idle_before_ns"][:n_lost] = 3_850_000_000 + rng.integers(0, 150_000_000, n_lost)
    occurrences = tuple(
        builders.occurrence(
            uid=f"1:{n}",
            request_frame=n,
            request_ts_ns=int(rows["request_ts_ns"][n]),
            idle_before_ns=int(rows["idle_before_ns"][n]),
            evidence=(),
        )
        for n in range(n_lost)
    )
    changes = {
        "exchanges": Table(EXCHANGES, rows),
        "losses": losses(occurrences),
        "last_ts_ns": builders.T0 + n_exchanges * builders.MS,
        "first_ts_ns": builders.T0,
    }
    found = (builders.finding(occurrences=occurrences),) if n_lost else ()
    return builders.analysis(**changes), builders.report(*found, **changes)


def test_an_incident_with_all_inputs_has_all_four_charts(made):
    assert list(made) == ["timeline", "idle-gaps", "closings", "cascade"]


def test_a_capture_without_a_request_has_no_chart(race):
    nothing = dataclasses.replace(
        race.analysis,
        exchanges=Table(EXCHANGES, EXCHANGES.empty()),
        connections=Table(CONNECTIONS, CONNECTIONS.empty()),
        legs=np.empty(0, dtype=np.int8),
        losses=(),
        truncated=(),
        log=None,
    )
    report = dataclasses.replace(race.report, findings=())
    assert charts(nothing, report) == {}


def test_the_same_incident_gives_the_same_bytes(race, made):
    again = charts(race.analysis, race.report)
    for name, chart in made.items():
        assert again[name].svg() == chart.svg()
        assert again[name].png() == chart.png()
        assert again[name].tips == chart.tips


@pytest.mark.parametrize("name", ["timeline", "idle-gaps", "closings", "cascade"])
def test_a_picture_is_a_png_of_twice_the_width_of_the_drawing(made, name):
    picture = made[name].png()
    root = ET.fromstring(made[name].svg())  # noqa: S314 - our own drawing
    assert picture.startswith(b"\x89PNG")
    assert int.from_bytes(picture[16:20]) == 2 * float(root.get("width"))


def test_no_mark_is_without_a_place(made):
    for chart in made.values():
        for width in (760, NARROW_PX):
            assert "NaN" not in chart.svg(width=width, palette=CSS)


def test_every_failure_is_drawn_or_counted(race, made):
    with_gap = [f for f in race.analysis.losses if f.idle_before_ns >= 0]
    drawn = len(marks(made["idle-gaps"], "lost"))
    hidden = made["idle-gaps"].caption.partition("Not drawn")[2]
    n_hidden = next((int(part.split()[0]) for part in hidden.replace(":", ",").split(", ") if "failure" in part), 0)
    assert drawn > 0
    assert drawn + n_hidden == len(with_gap)


def test_a_failure_on_a_fresh_connection_is_said_to_have_no_gap():
    case = ROOT / "captures" / "connect_refused_and_timeout"
    result = pcapdiag.analyze(case / "proxy.pcap")
    made = charts(result.analysis, result.report)
    assert "on a fresh connection had no idle gap" in made["idle-gaps"].caption


def test_the_race_window_stands_where_it_was_measured(race, made):
    spec = made["idle-gaps"].spec(made["idle-gaps"].look())
    rows = spec["layer"][0]["data"]["values"]
    wanted = sorted(u.race_window_ns for u in race.analysis.upstreams)
    assert sorted((round(r["low"] * 1e9), round(r["high"] * 1e9)) for r in rows) == wanted


def test_lost_requests_lie_at_the_window_and_answered_ones_below(made):
    chart = made["idle-gaps"]
    spec = chart.spec(chart.look())
    low = min(row["low"] for row in spec["layer"][0]["data"]["values"]) * 0.98
    points = spec["layer"][1]["data"]["values"]
    assert all(p["g"] >= low for p in points if p["k"] == "lost")
    assert all(p["g"] < low for p in points if p["k"] == "answered")


def test_of_many_requests_a_bounded_number_is_drawn_and_the_others_are_counted():
    analysis, report = incident(60_000, 400)
    chart = charts(analysis, report)["idle-gaps"]
    kinds = [p["k"] for p in chart.spec(chart.look())["layer"][1]["data"]["values"]]
    assert kinds.count("answered") == MOST_CALM
    assert f"{60_000 - 400 - MOST_CALM:,} answered requests" in chart.caption
    hidden = chart.caption.partition("Not drawn")[2]
    n_hidden = sum(int(part.split()[-2]) for part in hidden.split(",") if part.rstrip(".").endswith("failures"))
    assert kinds.count("lost") + n_hidden == 400


def test_even_an_incident_of_failures_alone_stays_drawable():
    analysis, report = incident(10_000, 10_000)
    made = charts(analysis, report)
    kinds = [tip.text.split(", ")[1] for tip in made["idle-gaps"].tips]
    assert len(kinds) <= MOST_MARKED
    assert sum(len(chart.svg()) for chart in made.values()) < 500_000


def test_the_timeline_counts_every_request_once(race, made):
    rows = made["timeline"].table.rows
    answered, failed = (sum(int(row[n].replace(",", "")) for row in rows) for n in (1, 2))
    assert answered + failed == sum(u.exchanges for u in race.analysis.upstreams)
    assert failed == len(race.analysis.losses)


def test_the_histogram_holds_every_idle_closing(race, made):
    rows = race.analysis.connections
    idle = (rows["closing_kind"] == ClosingKind.FIN) & (rows["closing_open_exchange"] == 0)
    idle &= rows["idle_at_close_ns"] >= 1_000_000
    by_upstream = int((idle & (rows["first_closer"] == Direction.RESP)).sum())
    table = made["closings"].table.rows
    assert sum(int(row[2]) for row in table) == by_upstream
    assert sum(int(row[3]) for row in table) == int(idle.sum()) - by_upstream


def test_a_peer_is_out_from_its_failure_until_fail_timeout_is_over(race, made):
    outs = {(row[0], row[2]) for row in made["cascade"].table.rows}
    entries = {e.line: e for e in race.report.log.entries}
    disabled = [e for e in entries.values() if "temporarily disabled" in e.message]
    assert outs
    assert {stamp for _, stamp in outs} <= {clock_text(e.ts_ns)[:8] for e in entries.values()}
    assert disabled


def test_every_entry_of_no_live_upstreams_is_a_mark(race, made):
    n_entries = sum(e.kind == "no_live_upstreams" for e in race.report.log.entries)
    assert n_entries > 0
    assert len([t for t in made["cascade"].tips if "no live upstreams" in t.text]) == n_entries


def test_hostile_names_are_text_in_the_drawing(race):
    name = 'x"/><script>alert(1)</script>\u202e\x1b[31m'
    upstreams = tuple(dataclasses.replace(u, endpoint=f"{name}{n}") for n, u in enumerate(race.report.upstreams))
    findings = tuple(dataclasses.replace(f, name=name) for f in race.report.findings)
    report = dataclasses.replace(race.report, upstreams=upstreams, findings=findings)
    for chart in charts(race.analysis, report).values():
        svg = chart.svg()
        root = ET.fromstring(svg)  # noqa: S314 - our own drawing
        assert {element.tag.rpartition("}")[2] for element in root.iter()} <= {
            "svg",
            "g",
            "path",
            "line",
            "rect",
            "text",
            "tspan",
        }
        assert all(c.isprintable() or c == "\n" for c in svg)
        assert all(t.text.isprintable() for t in chart.tips)


def test_a_specification_fetches_nothing_and_runs_nothing_of_the_input(made):
    def walk(value, path=()):
        if isinstance(value, dict):
            for key, inner in value.items():
                yield (*path, key), inner
                yield from walk(inner, (*path, key))
        elif isinstance(value, list):
            for inner in value:
                yield from walk(inner, path)

    for chart in made.values():
        for path, value in walk(chart.spec(chart.look())):
            assert path[-1] not in {"url", "href", "signal", "params", "transform", "usermeta", "loader"}
            if "xpr" in path[-1]:
                assert value == GAP_LABEL


def test_a_report_with_other_names_for_the_peers_leaks_none_of_the_captured_ones(race):
    upstreams = tuple(dataclasses.replace(u, endpoint=f"peer-{n}:80") for n, u in enumerate(race.report.upstreams))
    captured = [str(u.endpoint) for u in race.analysis.upstreams]
    report = dataclasses.replace(race.report, upstreams=upstreams)
    for chart in charts(race.analysis, report).values():
        said = chart.svg() + chart.alt + chart.caption + repr(chart.table) + repr(chart.tips)
        assert not [name for name in captured if name in said]
