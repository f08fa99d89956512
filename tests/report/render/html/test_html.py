"""The HTML report as a file: what its policy allows, what its text cannot do, how large it is, what it says."""

import base64
import dataclasses
import hashlib
import json
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest

import pcapdiag
from pcapdiag.base.codes import CapturePoint, Direction
from pcapdiag.base.findings import Change, Role, VerdictKind
from pcapdiag.report.render.charts import charts
from pcapdiag.report.render.html import render_html
from pcapdiag.report.render.html.figures import DrawingError, inline
from pcapdiag.report.render.html.ladder import build_figure, in_words
from pcapdiag.report.render.html.rows import MOST_ROWS, tshark_command
from tests.conftest import ROOT
from tests.report import builders
from tests.report.render.charts.test_charts import incident

ALSO_TESTS = ("diff", "engine", "figures", "ladder", "page", "rows")

pytestmark = pytest.mark.compiled_only

CASE = ROOT / "captures" / "idle_close_race_65s"


@pytest.fixture(scope="module")
def race():
    return pcapdiag.analyze(
        CASE / "proxy.pcap",
        error_logs=[CASE / "error.log"],
        access_logs=[CASE / "access.log"],
        proxy_conf=CASE / "nginx.conf",
        with_hashes=True,
    )


@pytest.fixture(scope="module")
def page(race):
    return race.to_html()


class Outline(HTMLParser):
    """What a browser would see: elements, attributes, and texts by the identifier of the section they are in."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.texts, self.contents = [], [], {}, []
        self._section, self._raw = "", ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "section":
            self._section = dict(attrs).get("id", "")
        if tag in {"script", "style"}:
            self._raw = "" if dict(attrs).get("type") else tag

    def handle_endtag(self, tag):
        if tag in {"script", "style"}:
            self._raw = ""
        if tag == "section":
            self._section = ""

    def handle_data(self, data):
        if self._raw:
            self.contents.append((self._raw, data))
        self.texts[self._section] = self.texts.get(self._section, "") + data

    def said(self, section):
        return " ".join(self.texts.get(section, "").split())


def test_the_policy_allows_nothing_but_the_style_and_script_inside(page):
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)[1].replace("&#39;", "'")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    for kind, text in Outline(page).contents:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[f"{kind}-src"] == f"'sha256-{digest}'"
    assert "unsafe" not in policy
    assert rules["form-action"] == rules["base-uri"] == "'none'"


def test_nothing_in_the_file_points_outside_it(page):
    outline = Outline(page)
    places = [
        v for k, v in outline.attributes if k in {"src", "href", "xlink:href", "srcset", "action", "data", "poster"}
    ]
    assert all(place.startswith("#") or place == "data:," for place in places)
    assert not {k for k, _ in outline.attributes if k == "style" or k.startswith("on")}
    assert "url(" not in page.replace("url(#", "")
    assert "@import" not in page
    assert "eval(" not in page
    assert "innerHTML" not in page


def test_the_same_report_gives_the_same_bytes(race, page):
    assert race.to_html() == page
    assert render_html(race.report, race.analysis, charts=charts(race.analysis, race.report)) == page


def test_an_incident_of_ten_thousand_exchanges_stays_small():
    analysis, report = incident(10_000, 600)
    assert len(render_html(report, analysis).encode()) < 1_500_000


def test_an_incident_of_failures_alone_stays_small():
    analysis, report = incident(10_000, 10_000)
    assert len(render_html(report, analysis).encode()) < 1_500_000


def test_sections_come_in_the_order_in_which_one_asks(page):
    wanted = ["verdict", "impact", "remedy", "timeline", "idle-gaps", "closings", "proof", "upstreams", "cascade"]
    wanted += ["ledger", "limits", "inputs", "redaction"]
    assert re.findall(r'<section id="([^"]+)"', page) == wanted


def test_the_first_heading_is_the_verdict(race, page):
    assert Outline(page).said("verdict") == race.headline


def test_what_clients_saw_is_counted_from_the_access_log(page):
    said = Outline(page).said("impact")
    assert "Requests of clients 72" in said
    assert "Failures they saw 19" in said
    assert "Failures hidden by retries 5" in said


def test_an_impact_that_is_not_known_says_why():
    result = pcapdiag.analyze(CASE / "proxy.pcap")
    said = Outline(result.to_html()).said("impact")
    assert said.lower().count("not known") == 1
    assert "no access log was given (--access-log) and the clients' connections are not in the capture" in said


def test_the_configuration_is_shown_as_a_diff_of_its_own_lines(page):
    said = Outline(page).said("remedy")
    assert "- remove: keepalive_timeout" in said
    assert "+ write: keepalive_timeout" in said


def test_a_change_says_what_to_know_about_it():
    change = Change(
        proxy="nginx",
        file="nginx.conf",
        line=7,
        where="upstream be",
        setting="keepalive_timeout",
        old="60s",
        new="3s",
        old_text="",
        text="keepalive_timeout 3s;",
        old_is_assumed=True,
        is_new=True,
        since="1.15.3",
        is_supported=False,
        caution="costs handshakes",
    )
    report = builders.race_report()
    findings = tuple(dataclasses.replace(f, changes=(change,)) for f in report.findings)
    said = Outline(render_html(dataclasses.replace(report, findings=findings), builders.analysis(losses=()))).said(
        "remedy"
    )
    assert "upstream be, line 7" in said
    assert "the default, 60s, applies" in said
    assert "This version does not know the setting: upgrade first." in said
    assert "Mind: costs handshakes." in said


def test_every_input_is_there_with_its_hash(race, page):
    said = Outline(page).said("inputs")
    for file in race.report.inputs:
        assert file.sha256 in said


def test_rules_that_were_not_evaluated_are_named_with_the_reason(race, page):
    said = Outline(page).said("limits")
    for verdict in race.report.verdicts:
        if verdict.verdict.name == "NOT_EVALUATED":
            assert verdict.code in said
            assert verdict.reason in said


def test_a_report_that_is_not_redacted_says_so():
    result = pcapdiag.analyze(CASE / "proxy.pcap", redact=False)
    assert "NOT redacted" in Outline(result.to_html()).said("redaction")
    assert "are masked" in Outline(pcapdiag.analyze(CASE / "proxy.pcap").to_html()).said("redaction")


def test_hostile_text_adds_no_element_no_attribute_and_no_invisible_character():
    analysis = builders.analysis(losses=(), upstreams=(builders.upstream(server_field=builders.HOSTILE),))
    calm = Outline(render_html(builders.race_report(), builders.analysis(losses=())))
    page = render_html(builders.hostile_report(), analysis)
    hostile = Outline(page)
    assert set(hostile.tags) <= {*calm.tags, "h4"}
    assert {k for k, _ in hostile.attributes} <= {k for k, _ in calm.attributes}
    assert hostile.tags.count("script") == calm.tags.count("script")
    assert all(c.isprintable() or c == "\n" for c in page)
    assert "<script>alert(1)</script>" in "".join(hostile.texts.values())


def test_a_drawing_with_anything_else_in_it_is_refused():
    head = '<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1">'
    for bad in (
        "<script>1</script>",
        '<a href="x">y</a>',
        '<image href="x"/>',
        '<g onclick="1"/>',
        '<g style="x"/>',
        '<rect fill="url(http://evil.example/x)"/>',
        '<path d="MNaN,0"/>',
        "<foreignObject/>",
        "<g",
    ):
        with pytest.raises(DrawingError):
            inline(f"{head}{bad}</svg>")
    assert "<g>" in inline(f"{head}<g></g></svg>")


def ladder_of(occurrence, report):
    entries = {f"{e.path}:{e.line}": e for e in report.log.entries}
    return build_figure(occurrence, report, entries, "a request")


def test_the_arrows_of_a_race_cross_and_those_of_an_answer_do_not(race):
    shown = next(o for f in race.report.findings for o in f.occurrences if o.evidence)
    arrows = ladder_of(shown, race.report).drawing.arrows
    request = next(a for a in arrows if a.kind == "request")
    fin = next(a for a in arrows if a.kind == "closing" and a.label.startswith("FIN") and a.x1 > a.x2)
    # The FIN left above where the request arrived, and arrived below where that had left.
    assert fin.y1 < request.y2
    assert fin.y2 > request.y1
    syn, syn_ack = (next(a for a in arrows if a.label == label) for label in ("SYN", "SYN-ACK"))
    assert syn_ack.y1 > syn.y2


def test_both_ends_have_their_own_rows():
    far = [CASE / f"upstream_{name}.pcap" for name in "abc"]
    result = pcapdiag.analyze(CASE / "proxy.pcap", upstream_captures=far)
    shown = next(o for f in result.report.findings for o in f.occurrences if o.far_end is not None)
    figure = ladder_of(shown, result.report)
    assert figure.has_both_ends
    assert any(not arrow.guess for arrow in figure.drawing.arrows)
    assert {step.end for step in figure.steps} == {"proxy", "upstream"}
    assert any("Both ends:" in sentence for sentence in figure.proof)


def test_the_log_entry_stands_after_the_closing_that_it_tells_of(race):
    shown = next(o for f in race.report.findings for o in f.occurrences if o.evidence and o.log_lines)
    steps = ladder_of(shown, race.report).steps
    first = next(n for n, step in enumerate(steps) if step.is_log)
    assert "FIN" in steps[first - 1].words
    assert "upstream prematurely closed connection" in steps[first].words
    assert not any(step.is_log for step in steps[:first])


def test_log_entries_hide_no_arrow_and_stand_in_the_order_of_their_time(race):
    n_logs = 0
    for finding in race.report.findings:
        for o in finding.occurrences:
            if not o.evidence:
                continue
            figure = ladder_of(o, race.report)
            entries = {f"{e.path}:{e.line}": e for e in race.report.log.entries}
            told = [step.words for step in figure.steps if step.is_log]
            assert len(told) == len(figure.drawing.marks) == len([p for p in o.log_lines if p in entries])
            assert told == sorted(told, key=lambda words: int(words.split(":")[1]))
            assert all(entry.message in " ".join(told) for p, entry in entries.items() if p in o.log_lines)
            # A mark lies on the proxy's line, its words outside of it.
            assert all(m.x == figure.drawing.left and m.text.x < m.x for m in figure.drawing.marks)
            n_logs += len(told)
    assert n_logs > 30


def test_no_entry_of_a_log_stands_before_one_that_was_written_earlier(race):
    shown = next(o for f in race.report.findings for o in f.occurrences if o.evidence and o.log_lines)
    entries = {f"{e.path}:{e.line}": e for e in race.report.log.entries}
    own = entries[shown.log_lines[0]]
    # One that tells of the frame before, but was written later.
    first = min(shown.evidence, key=lambda e: e.ts_ns)
    late = dataclasses.replace(own, line=own.line + 900, request_frame=first.frame, message="written later")
    entries[f"{late.path}:{late.line}"] = late
    lines = (*shown.log_lines, f"{late.path}:{late.line}")
    steps = build_figure(dataclasses.replace(shown, log_lines=lines), race.report, entries, "a request").steps
    assert [s.words for s in steps if s.is_log][-1].endswith("written later")


def tbodies(page):
    return re.findall(r'<tbody id="([^"]+)">(.*?)</tbody>', page, re.DOTALL)


def test_each_occurrence_has_a_row_with_an_anchor_and_its_proof(race, page):
    rows = dict(tbodies(page))
    n_listed = sum(len(f.occurrences) for f in race.report.findings)
    assert len(rows) == len(tbodies(page)) == n_listed
    for finding in race.report.findings:
        for o in finding.occurrences:
            if finding.code != "PD101":
                continue
            own = rows[f"PD101-frame-{o.request_frame}"]
            assert "drawn above" in own or "<svg" in own or "<pre>" in own
            assert "Command:" in own or "drawn above" in own


def test_marks_of_charts_lead_to_rows_that_are_there(page):
    anchors = {name for name, _ in tbodies(page)}
    led = set()
    for name in ("timeline", "idle-gaps"):
        data = json.loads(re.search(rf'id="data-{name}">(.*?)</script>', page)[1])
        led |= {tip[3] for tip in data["tips"] if tip[3]}
    assert led
    assert led <= anchors


def test_the_cause_that_the_verdict_names_comes_first():
    rare = builders.finding(code="PD101", occurrences=(), remedy="Rare.")
    common = builders.finding(code="PD203", remedy="Common.")
    page = render_html(builders.report(rare, common), builders.analysis(losses=()))
    assert Outline(page).said("remedy").index("Common.") < Outline(page).said("remedy").index("Rare.")


def test_of_very_many_rows_paper_has_the_first_and_says_so():
    analysis, report = incident(100, 21)
    assert "On paper stand the first 20 rows of 21" in render_html(report, analysis)
    assert "On paper" not in render_html(*incident(100, 20)[::-1])


def test_what_the_access_log_does_not_tell_is_said_to_be_so(race):
    impact = dataclasses.replace(race.report.impact, hidden_by_retries=-1, unknown="")
    said = Outline(render_html(dataclasses.replace(race.report, impact=impact), race.analysis)).said("impact")
    assert "not known the access log does not tell" in said
    assert "because F" not in said


def test_the_remedy_stands_before_the_proof_and_its_patch_once(page):
    said = Outline(page).said("remedy")
    assert page.index('id="remedy"') < page.index('id="timeline"') < page.index('id="proof"')
    assert said.count("keepalive_timeout 60s;") == 1
    assert "pcapdiag rule PD101" in said


def test_a_command_is_given_only_where_it_can_be_copied_as_it_is():
    o = SimpleNamespace(capture="it's proxy.pcap", display_filter="frame.number in {1, 2}")
    assert tshark_command(o) == "tshark -r 'it'\"'\"'s proxy.pcap' -Y 'frame.number in {1, 2}'"
    assert tshark_command(SimpleNamespace(capture="a\x1b.pcap", display_filter="tcp")) == ""


def test_a_cause_of_very_many_occurrences_says_how_many_have_no_row():
    analysis, report = incident(10_000, 3_000)
    page = render_html(report, analysis)
    assert len(tbodies(page)) == MOST_ROWS
    assert f"and {3_000 - MOST_ROWS:,} more: --all --format json lists them all" in page


def test_a_capture_at_the_upstream_has_its_times_on_the_right(race):
    shown = next(o for f in race.report.findings for o in f.occurrences if o.evidence)
    captures = tuple(dataclasses.replace(c, capture_point=CapturePoint.UPSTREAM) for c in race.report.captures)
    drawing = ladder_of(shown, dataclasses.replace(race.report, captures=captures)).drawing
    assert all(words.x > drawing.right for words in drawing.words)
    assert {arrow.guess for arrow in drawing.arrows if arrow.x1 < arrow.x2} == {"from"}


def test_sequence_numbers_are_said_in_words():
    frame = SimpleNamespace(flags=("PSH", "ACK"), payload_len=179, rel_seq=716, rel_ack=852, dir=Direction.ORIG)
    assert in_words(frame) == "bytes 716 to 894 of its stream, has everything below byte 852 of the other stream"
    frame = SimpleNamespace(flags=("FIN", "ACK"), payload_len=0, rel_seq=852, rel_ack=716, dir=Direction.RESP)
    assert in_words(frame) == "FIN, after byte 851 of its stream, has everything below byte 716 of the other stream"


def test_what_could_not_be_judged_is_not_painted_as_good_news():
    blind = VerdictKind.NOT_EVALUATED
    made = builders.report(n_unanswered=0)
    last = dataclasses.replace(
        made.verdicts[-1], role=Role.UNEXPLAINED, verdict=blind, reason="only one direction was captured"
    )
    unjudged = dataclasses.replace(made, verdicts=(*made.verdicts, last))
    assert 'class="verdict clean"' in render_html(made, builders.analysis(losses=()))
    page = render_html(unjudged, builders.analysis(losses=()))
    assert 'class="verdict info"' in page
    assert "Nothing can be judged: only one direction was captured." in page
    assert 'class="cards"' not in page, "four times not known is once too often"
