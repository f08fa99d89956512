"""The terminal report: verdict first, every width, no colour unless asked, nothing hostile raw."""

import re
import unicodedata

import pytest

from pcapdiag.analysis.model import Endpoint
from pcapdiag.base.codes import CapturePoint
from pcapdiag.base.columns import CONNECTIONS
from pcapdiag.base.findings import Note, Severity, Verdict, VerdictKind
from pcapdiag.base.tables import Table
from pcapdiag.engine.capture.batch import Capture
from pcapdiag.report.render import markdown
from pcapdiag.report.render.blocks import MIN_WIDTH
from pcapdiag.report.render.document import MAX_FOLDED_ROWS
from pcapdiag.report.render.terminal import render
from tests.report import builders

ANSI = re.compile(r"\x1b\[[0-9;]*m")


@pytest.mark.parametrize("width", [60, 80, 100, 112, 160])
@pytest.mark.parametrize("make", [builders.race_report, builders.hostile_report])
def test_no_line_is_wider_than_asked_or_ends_in_blanks(width, make):
    lines = render(make(), width=width).splitlines()
    assert max(map(len, lines)) <= width
    assert all(line == line.rstrip() for line in lines)


def test_a_terminal_narrower_than_the_ladder_gets_the_least_width():
    assert render(builders.race_report(), width=10) == render(builders.race_report(), width=MIN_WIDTH)


def test_the_verdict_is_the_first_sentence():
    first = render(builders.race_report()).split("\n\n")[0].replace("\n", " ")
    verdict = (
        "13 of 36 requests got no answer: the upstream closed the idle connection while the proxy was sending "
        "a request on it (PD101 idle-close-race, confirmed)."
    )
    assert first.startswith(verdict)
    assert first.removeprefix(verdict).startswith(" What clients saw is not known: ")


def test_the_sections_come_in_the_order_of_need():
    text = render(builders.race_report())
    order = [
        "got no answer",
        "PD101 idle-close-race  error",
        "closes idle connections after",
        "time  proxy",
        "Wireshark filter: frame.number in {98, 106, 109, 116}",
        "12 more",
        "and 2 more: --format json lists them all",
        "Remedy",
        "keepalive_timeout 3s;",
        "What would have refuted it",
        "Upstreams",
        "Not evaluated",
        "Looked for and not found",
        "Input",
    ]
    positions = [text.index(part) for part in order]
    assert positions == sorted(positions)


def test_settings_keep_their_indentation():
    text = render(builders.race_report())
    assert "\n        upstream be {\n            keepalive_timeout 3s;\n        }\n" in text


def test_words_stand_beside_the_arrows_where_there_is_room_and_under_them_where_not():
    wide = next(line for line in render(builders.race_report(), width=140).splitlines() if " 109 " in line)
    assert "the upstream closes" in wide
    lines = render(builders.race_report(), width=100).splitlines()
    number = next(n for n, line in enumerate(lines) if line.endswith(" 109"))
    assert "the upstream closes" in lines[number + 1]


def test_without_colour_there_is_no_escape_character():
    assert "\x1b" not in render(builders.race_report())
    assert "\x1b" not in render(builders.hostile_report())


def test_colour_changes_nothing_but_colour():
    colored = render(builders.race_report(), color=True)
    assert "\x1b[" in colored
    plain = "\n".join(line.rstrip() for line in ANSI.sub("", colored).split("\n"))
    assert plain == render(builders.race_report())


def test_hostile_text_reaches_no_terminal_raw():
    for text in (render(builders.hostile_report()), ANSI.sub("", render(builders.hostile_report(), color=True))):
        odd = {c for c in text if c != "\n" and unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}}
        assert odd == set()


def test_markup_in_hostile_text_is_text():
    assert "[red]rich[/red]" in render(builders.hostile_report(), width=400)


def test_a_healthy_capture_says_so_in_one_sentence():
    report = builders.report(n_unanswered=0)
    first = render(report).splitlines()[0]
    assert first == "No request was lost: 36 requests on 8 connections to 1 upstream, none unanswered."


def test_a_warning_without_a_loss_is_said_after_the_good_news():
    risk = builders.finding(code="PD110", name="idle-close-risk", severity=Severity.WARNING, message="It may happen.")
    first = render(builders.report(risk, n_unanswered=0)).splitlines()[0]
    assert first == "No request was left without an answer, but: it may happen."


def test_several_causes_are_counted_and_the_largest_is_told():
    few = builders.finding(code="PD301", name="connect-refused", occurrences=(builders.occurrence(depth=-1),))
    first = render(builders.report(few, builders.finding(), n_unanswered=14, n_connect=1), width=400).splitlines()[0]
    assert first.startswith("13 of 36 requests got no answer and 1 connection attempt failed: the upstream closed")
    assert first.endswith("(PD101 idle-close-race, confirmed, 13 times); besides 1 x PD301 connect-refused.")


def test_findings_of_one_code_share_heading_ladder_and_remedy():
    other = builders.finding(subject="10.1.1.3:80", message="10.1.1.3:80 does the same.")
    text = render(builders.report(builders.finding(), other, n_unanswered=26))
    assert text.count("PD101 idle-close-race  error, confirmed, 26 times") == 1
    assert text.count("Wireshark filter") == 1
    assert text.count("keepalive_timeout 3s;") == 1
    assert "10.1.1.3:80 does the same." in text


def test_different_remedies_name_their_subjects():
    other = builders.finding(subject="10.1.1.3:80", remedy="Something else.")
    text = render(builders.report(builders.finding(), other, n_unanswered=26))
    assert "Remedy for 10.1.1.2:80" in text
    assert "Remedy for 10.1.1.3:80" in text


def test_a_rule_that_could_not_judge_gives_its_reason():
    verdicts = (Verdict("PD105", VerdictKind.NOT_EVALUATED, "no TTL in this capture"),)
    assert "PD105: no TTL in this capture" in render(builders.report(verdicts=verdicts))


def test_remedies_that_differ_in_numbers_only_are_told_once():
    first = builders.finding(remedy="At the proxy, for 10.1.1.2:80: keepalive_timeout 3s; below 3.844 s.")
    other = builders.finding(
        subject="[2001:db8::1]:80", remedy="At the proxy, for [2001:db8::1]:80: keepalive_timeout 9s; below 9.9 s."
    )
    text = render(builders.report(first, other, n_unanswered=26))
    assert text.count("At the proxy") == 1
    assert "The same goes for [2001:db8::1]:80 (9s in place of 3s, 9.9 s in place of 3.844 s)." in " ".join(
        text.split()
    )


def test_a_cause_that_was_not_asked_for_is_not_made_up():
    first = render(builders.report()).splitlines()[0]
    assert first == "13 of 36 requests got no answer: their causes are not shown."


def test_truncated_responses_are_failures_that_are_not_unanswered():
    cut = builders.loss(is_connect=False)
    first = render(builders.report(builders.finding(), n_unanswered=0, truncated=(cut,)), width=200).splitlines()[0]
    assert first.startswith("1 response was cut off: the upstream closed")
    first = render(builders.report(builders.finding(), n_connect=1, truncated=(cut, cut)), width=200).splitlines()[0]
    assert first.startswith(
        "12 of 36 requests got no answer, 1 connection attempt failed and 2 responses were cut off:"
    )


@pytest.mark.parametrize(("renderer", "most"), [(render, 250), (markdown.render, 250 + MAX_FOLDED_ROWS)])
def test_a_large_input_makes_no_endless_report(renderer, most):
    n = 500
    findings = [builders.finding(subject=f"10.9.0.{k}:80", message=f"Message {k}.") for k in range(n)]
    upstreams = tuple(builders.upstream(endpoint=Endpoint("10.9.0.1", k)) for k in range(n))
    captures = tuple(Capture([builders.capture_file(path=f"c{k}.pcap")], [Note("odd", f"Note {k}")]) for k in range(n))
    points = (CapturePoint.PROXY,) * n
    text = renderer(builders.report(*findings, upstreams=upstreams, captures=captures, capture_points=points))
    assert len(text.splitlines()) < most
    assert text.count("and 480 more") >= 4


def test_of_several_files_the_filter_says_whose_frames_it_counts():
    files = [builders.capture_file(path="a.pcap"), builders.capture_file(path="b.pcap", first_frame=628)]
    text = render(builders.report(builders.finding(), captures=(Capture(files, []),)))
    assert "Wireshark filter for a.pcap: frame.number in {98, 106, 109, 116}" in text


def test_where_nothing_can_be_judged_the_report_says_why():
    no_connection = Table(CONNECTIONS, CONNECTIONS.empty())
    first = render(builders.report(n_unanswered=0, connections=no_connection, upstreams=())).splitlines()[0]
    assert first == "There is nothing to judge: 628 frames, but no TCP connection among them."
    first = render(builders.report(n_unanswered=0, upstreams=())).splitlines()[0]
    assert first == "There is nothing to judge: 1 connection, no request to an upstream."
