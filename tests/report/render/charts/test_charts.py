"""Charts: every failure is drawn or counted, data stay data, the same incident gives the same picture."""

import dataclasses
import re
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import numpy as np
import pytest

import pcapdiag
from pcapdiag.base.codes import ClosingKind, Direction, Outcome
from pcapdiag.base.columns import CONNECTIONS, EXCHANGES
from pcapdiag.base.findings import Role
from pcapdiag.base.tables import Table
from pcapdiag.report.render.charts import CSS, NARROW_PX, charts
from pcapdiag.report.render.charts.closings import closings
from pcapdiag.report.render.charts.gap_rows import MOST_CALM
from pcapdiag.report.render.charts.idle_gaps import MOST_LOST
from pcapdiag.report.render.charts.outcomes import FAILED, KINDS, NO_PEER, outcomes
from pcapdiag.report.render.charts.panel import SECONDS_LABEL, Decades, GapAxis, nice_step
from pcapdiag.report.render.charts.scene import Scene, clock_text
from tests.conftest import ROOT
from tests.report import builders

ALSO_TESTS = ("cascade", "chart", "closings", "gap_rows", "idle_gaps", "outcomes", "panel", "scene", "timeline")

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


def values_of(chart, key):
    """Return the data of all marks of a drawing that have a field."""
    return [v for layer in chart.spec(chart.look())["layer"] for v in layer["data"]["values"] if key in v]


def test_each_lost_request_is_drawn_and_leads_to_its_row(race, made):
    with_gap = [f for f in race.analysis.losses if f.idle_before_ns >= 0]
    drawn = marks(made["idle-gaps"], "lost")
    assert len(drawn) == len(with_gap) == sum(v.get("k") == "lost" for v in values_of(made["idle-gaps"], "v"))
    assert "Not drawn" not in made["idle-gaps"].caption
    assert len({tip.anchor for tip in drawn}) == len(drawn)
    assert all(tip.anchor.startswith("PD101-frame-") for tip in drawn)


def test_a_failure_on_a_fresh_connection_is_said_to_have_no_gap():
    case = ROOT / "captures" / "connect_refused_and_timeout"
    result = pcapdiag.analyze(case / "proxy.pcap")
    made = charts(result.analysis, result.report)
    assert "on a fresh connection had no idle gap" in made["idle-gaps"].caption


def test_the_race_window_stands_where_it_was_measured_from_each_timer(race, made):
    windows = made["idle-gaps"].spec(made["idle-gaps"].look())["layer"][0]["data"]["values"]
    wanted = sorted((low - u.idle_timeout.value_ns) for u in race.analysis.upstreams for low in u.race_window_ns[:1])
    assert sorted(round(w["a"] * 1e6) for w in windows) == wanted
    assert all(w["b"] == 0 for w in windows), "T is where the axis has its 0"


def test_the_axis_around_the_timer_is_linear_and_shows_what_a_logarithm_hides(race, made):
    chart = made["idle-gaps"]
    scale = chart.spec(chart.look())["layer"][0]["encoding"]["x"]["scale"]
    width = max(u.race_window_ns[1] - u.race_window_ns[0] for u in race.analysis.upstreams) / 1e6
    low, high = scale["domain"]
    assert "type" not in scale
    assert high - low < 5 * width, "the window takes a good part of the axis"
    assert chart.spec(chart.look())["layer"][0]["encoding"]["x"]["axis"]["title"] == "idle gap minus T [ms]"


def test_each_upstream_has_a_row_that_says_its_timer_and_losses(race, made):
    names = [v["text"] for v in values_of(made["idle-gaps"], "text")]
    for upstream in race.report.upstreams:
        assert [n for n in names if n.startswith(upstream.endpoint) and f"{upstream.unanswered} lost" in n]


def test_the_whole_range_stands_below_with_every_request(race, made):
    said = [v["text"] for v in values_of(made["idle-gaps"], "text")]
    n_reused = sum(u.reused for u in race.analysis.upstreams)
    n_lost = len(race.analysis.losses)
    assert f"{n_lost} lost" in said
    assert f"{n_reused - n_lost} answered" in said


def test_more_lost_requests_than_can_be_drawn_are_counted_in_bars_and_none_is_left_out():
    analysis, report = incident(10_000, MOST_LOST + 1)
    chart = charts(analysis, report)["idle-gaps"]
    counted = [int(found[1].replace(",", "")) for t in chart.tips if (found := re.search(r"([\d,]+) lost, ", t.text))]
    assert sum(counted) == MOST_LOST + 1
    assert f"Bars count the {MOST_LOST + 1:,} lost requests" in chart.caption
    assert not [v for v in values_of(chart, "k") if v["k"] == "lost"]
    one_by_one = charts(*incident(10_000, MOST_LOST))["idle-gaps"]
    assert len([v for v in values_of(one_by_one, "k") if v["k"] == "lost"]) == MOST_LOST


def test_a_request_lost_far_from_the_timer_stands_at_the_end_of_the_axis_and_is_said_to():
    analysis, report = incident(100, 3)
    finding = report.findings[0]
    far = dataclasses.replace(finding.occurrences[0], idle_before_ns=3_600 * S)
    findings = (dataclasses.replace(finding, occurrences=(far, *finding.occurrences[1:])),)
    chart = charts(analysis, dataclasses.replace(report, findings=findings))["idle-gaps"]
    assert "1 lost request beyond the axis stands at its end." in chart.caption
    assert any(tip.x == 1 and "3600 s idle" in tip.text for tip in chart.tips)


def test_without_a_timer_the_lost_requests_stand_in_the_whole_range():
    analysis, report = incident(100, 3)
    bare = {
        "race_window_ns": (-1, -1),
        "idle_timeout_ns": dataclasses.replace(report.upstreams[0].idle_timeout_ns, value=-1),
    }
    upstreams = tuple(dataclasses.replace(u, **bare) for u in report.upstreams)
    chart = charts(analysis, dataclasses.replace(report, upstreams=upstreams))["idle-gaps"]
    assert len([t for t in chart.tips if ", lost (" in t.text]) == 3
    assert chart.title == "Idle gap of each request"


def test_of_many_answered_requests_a_bounded_number_is_drawn_and_all_are_counted():
    analysis, report = incident(60_000, 400)
    chart = charts(analysis, report)["idle-gaps"]
    kinds = [v["k"] for v in values_of(chart, "k")]
    assert kinds.count("answered") <= MOST_CALM
    assert kinds.count("lost") == 400
    assert "59,600 answered" in [v["text"] for v in values_of(chart, "text")]


def test_even_an_incident_of_failures_alone_stays_drawable():
    analysis, report = incident(10_000, 10_000)
    assert sum(len(chart.svg()) for chart in charts(analysis, report).values()) < 500_000


def test_an_axis_has_bins_whose_limits_one_can_say():
    assert [nice_step(n) for n in (0.2, 1, 1.1, 3, 7, 11, 4_321)] == [1, 1, 2, 5, 10, 20, 5_000]
    assert GapAxis(-5_000_000, 1_000_000).unit == (1e6, "ms")
    assert GapAxis(-5, 5).fraction(10) == 1
    axis = Decades.of(5, 5_000_000_000, 1000)
    assert 0 < axis.fraction(1e-6) < axis.fraction(5.0) < 1


def column(chart, name):
    at = chart.table.headers.index(name)
    return sum(int(row[at].replace(",", "")) for row in chart.table.rows)


def test_the_timeline_stacks_the_requests_of_clients_by_what_became_of_them(race, made):
    impact = race.report.impact
    no_peer = sum(f.count for f in race.report.findings if f.role is Role.NO_PEER)
    timeline = made["timeline"]
    assert column(timeline, "failed: no live upstream") == no_peer == 17
    assert column(timeline, "failed") == impact.failures - no_peer
    assert column(timeline, "saved by a retry") == impact.hidden_by_retries
    assert sum(column(timeline, name) for name in timeline.table.headers[1:]) == impact.requests
    assert "requests of clients" in timeline.title


def test_without_a_word_on_clients_the_timeline_counts_tries_and_says_so():
    result = pcapdiag.analyze(CASE / "proxy.pcap", error_logs=[CASE / "error.log"])
    timeline = charts(result.analysis, result.report)["timeline"]
    n_tries = sum(u.exchanges for u in result.analysis.upstreams)
    assert column(timeline, "answered") + column(timeline, "failed") == n_tries
    assert column(timeline, "failed: no live upstream") == 17, "no packet shows them; the log does"
    assert "tries at upstreams" in timeline.title


def test_failures_that_the_two_logs_do_not_tell_alike_are_not_told_apart(race):
    findings = tuple(
        dataclasses.replace(
            f,
            occurrences=tuple(dataclasses.replace(o, request_ts_ns=o.request_ts_ns - 30 * S) for o in f.occurrences),
        )
        if f.role is Role.NO_PEER
        else f
        for f in race.report.findings
    )
    scene = Scene(race.analysis, dataclasses.replace(race.report, findings=findings))
    bars = outcomes(scene, *scene.span_ns)
    assert bars.total(FAILED, NO_PEER) == race.report.impact.failures
    assert bars.total(*KINDS) == race.report.impact.requests


def test_the_axes_of_the_timeline_have_names_and_whole_numbers(made):
    upper = made["timeline"].spec(made["timeline"].look())["layer"][0]["encoding"]
    assert upper["y"]["axis"]["title"] == "requests per 10 s"
    assert all(isinstance(n, int) for n in upper["y"]["axis"]["values"])
    assert upper["x"]["axis"]["title"] == "time (UTC)"


def test_peers_that_were_put_out_and_reloads_are_marked(race):
    out = [e for e in race.report.log.entries if e.kind == "server_disabled"]
    log = dataclasses.replace(race.analysis.log, reloads=(race.report.log.entries[0].ts_ns // S,))
    timeline = charts(dataclasses.replace(race.analysis, log=log), race.report)["timeline"]
    assert f"peer put out: {len(out)} times" in timeline.alt
    assert "proxy reloaded: 1 time, first at 23:56:28 (log)" in timeline.alt


def test_what_only_a_log_tells_has_no_milliseconds(made):
    tips = [t.text for t in made["timeline"].tips if "PD601" in t.text or "put out" in t.text]
    assert tips
    assert all(re.match(r"\d\d:\d\d:\d\d \(log\), ", text) for text in tips)


def test_the_histogram_holds_every_idle_closing(race, made):
    rows = race.analysis.connections
    idle = (rows["closing_kind"] == ClosingKind.FIN) & (rows["closing_open_exchange"] == 0)
    idle &= rows["idle_at_close_ns"] >= 1_000_000
    by_upstream = int((idle & (rows["first_closer"] == Direction.RESP)).sum())
    table = made["closings"].table.rows
    assert sum(int(row[2]) for row in table) == by_upstream
    assert sum(int(row[3]) for row in table) == int(idle.sum()) - by_upstream


def with_closings(ages_ns):
    """Return the charts of a capture whose upstream, with T of 4.002 s, closed idle connections at such ages."""
    n = len(ages_ns)
    rows = CONNECTIONS.empty(n)
    rows["closing_kind"], rows["first_closer"] = ClosingKind.FIN, Direction.RESP
    rows["idle_at_close_ns"] = ages_ns
    analysis, report = incident(10, 1)
    upstream = report.upstreams[0]
    timer = dataclasses.replace(upstream.idle_timeout_ns, value=4_002_000_000, spread=2_000_000)
    report = dataclasses.replace(report, upstreams=(dataclasses.replace(upstream, idle_timeout_ns=timer),))
    scene = Scene(dataclasses.replace(analysis, connections=Table(CONNECTIONS, rows)), report)
    scene.__dict__["upstream_of_conn"] = np.zeros(n, dtype=np.int64)
    return closings(scene)


def test_a_peak_of_two_milliseconds_is_cut_into_bins_that_show_its_shape():
    ages = [4_001_000_000 + n * 100_000 for n in range(21)]
    chart = with_closings([*ages, 3_950_000_000, 60 * S])
    bars = [v for v in values_of(chart, "a") if v["bottom"] <= 46]
    assert len(bars) >= 10
    assert max(b["b"] - b["a"] for b in bars) < 0.21, "[ms]"
    assert "1 off this axis" in next(v["text"] for v in values_of(chart, "text"))
    said = [t.text for t in chart.tips if t.text.startswith("idle ")]
    assert any("idle 3.950 s to 4.003 s: 22 closed by the upstream" in text for text in said), "what is really in it"
    assert sum(int(row[2]) for row in chart.table.rows) == 23


@pytest.mark.parametrize("ages", [[4_002_000_000], [4_002_000_000] * 9, [4_000_000_000, 4_080_000_000], [60 * S]])
def test_any_closings_can_be_drawn(ages):
    chart = with_closings(ages)
    assert "NaN" not in chart.svg()
    assert sum(int(row[2]) for row in chart.table.rows) == len(ages)


def test_a_picture_says_by_itself_what_it_shows(made):
    spec = made["idle-gaps"].spec(made["idle-gaps"].look(), has_title=True)
    assert spec["title"]["text"] == made["idle-gaps"].title
    assert "10 of them lost" in spec["title"]["subtitle"]


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
                assert value == SECONDS_LABEL


def test_a_report_with_other_names_for_the_peers_leaks_none_of_the_captured_ones(race):
    upstreams = tuple(dataclasses.replace(u, endpoint=f"peer-{n}:80") for n, u in enumerate(race.report.upstreams))
    captured = [str(u.endpoint) for u in race.analysis.upstreams]
    report = dataclasses.replace(race.report, upstreams=upstreams)
    for chart in charts(race.analysis, report).values():
        said = chart.svg() + chart.alt + chart.caption + repr(chart.table) + repr(chart.tips)
        assert not [name for name in captured if name in said]
