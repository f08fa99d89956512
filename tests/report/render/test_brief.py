"""The report on one page: the answer first, what to do last, and nothing left out unsaid."""

import re
from dataclasses import replace
from io import StringIO

import pytest

import pcapdiag
from pcapdiag.base.findings import Confidence, Severity, VerdictKind
from pcapdiag.cli.options import SECTIONS
from pcapdiag.report.model import Impact, ReportNote, RuleVerdict
from pcapdiag.report.render import terminal
from pcapdiag.report.render.blocks import make_console
from pcapdiag.report.render.parts import Phrases
from tests.conftest import ROOT
from tests.report import builders

ALSO_TESTS = ("parts",)
CASES = ROOT / "captures"
LOGS = {"error_logs": "error.log", "access_logs": "access.log"}
COMMON = (
    "idle_close_race_65s",
    "idle_close_race_before",
    "race_lost_in_server",
    "fin_lost_rst_alone",
    "slow_upstream_read_timeout",
    "reset_on_reuse_state_lost",
    "silent_drop_on_reuse",
    "worker_exit",
    "connect_refused_and_timeout",
    "upstream_stops_reading",
    "middlebox_reset_on_reuse",
    "idle_closes_without_race",
    "healthy_keepalive",
    "path_mtu_icmp",
    "websockets_and_event_streams",
)


def analyze(name):
    folder = CASES / name
    logs = {option: [folder / file] for option, file in LOGS.items() if (folder / file).exists()}
    conf = folder / "nginx.conf"
    capture = next(folder / file for file in ("proxy.pcap", "capture.pcap") if (folder / file).exists())
    return pcapdiag.analyze(capture, proxy_conf=conf if conf.exists() else "", **logs)


def page(report, **changes):
    return terminal.render(replace(report, **changes), width=80, show=())


@pytest.mark.parametrize("name", COMMON)
def test_a_common_incident_is_one_page(name):
    result = analyze(name)
    lines = result.to_text(width=80).rstrip().splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    # Wrapped, but to the letter: nothing else than what every other form begins with.
    assert " ".join(lines).startswith(result.headline)
    assert lines[-1].startswith("-v: all of it")


def test_a_time_of_day_is_not_broken_however_narrow_the_page():
    for name in ("idle_close_race_65s", "connect_refused_and_timeout"):
        result = analyze(name)
        for width in range(60, 101, 4):
            assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} UTC\n", result.to_text(width=width)), (name, width)


def test_phrases_fill_lines_and_break_at_commas_alone():
    buffer = StringIO()
    make_console(buffer, 20, color=False).print(Phrases("one two, three, four five six, \x1b[31m" + "x" * 20))
    assert buffer.getvalue().splitlines() == ["one two, three,", "four five six,", "\\x1b[31mxxxxxxxxxxxx", "xxxxxxxx"]


def test_all_that_is_not_on_the_page_is_a_section_of_the_whole_report():
    result = analyze("idle_close_race_65s")
    whole = result.to_text(width=80, show=None)
    for section in SECTIONS:
        more = result.to_text(width=80, show=[section])
        added = more.removeprefix(result.to_text(width=80).rstrip("\n"))
        assert added.strip("\n") in whole
    assert "Ledger\n" in result.to_text(show=["ledger"])
    assert "Ledger\n" not in result.to_text(show=["upstreams"])


def test_sections_have_the_same_names_on_the_command_line():
    assert tuple(terminal.SECTIONS) == SECTIONS


def test_the_change_is_a_patch_of_the_operators_own_file_said_once_for_all_upstreams():
    text = analyze("idle_close_race_65s").to_text(width=100)
    assert text.count("+keepalive_timeout 60s;") == text.count("-keepalive_timeout 300s;") == 1
    place = r"nginx\.conf:12, upstream be \(nginx 1\.15\.3 or later\)"
    assert re.search(place + r"\n +-keepalive_timeout 300s;\n +\+keepalive_timeout 60s;", text)
    assert text.index("+keepalive_timeout") < text.index("Replayed with that")


def test_without_a_configuration_the_remedy_is_in_words():
    result = pcapdiag.analyze(CASES / "idle_close_race_65s" / "proxy.pcap")
    assert "what to do\n  At the proxy: an idle limit of 60 s for connections to 10.1.1.3:80" in result.to_text()


def test_what_could_not_be_looked_for_is_counted():
    verdicts = tuple(RuleVerdict(f"PD{n}", VerdictKind.NOT_EVALUATED, "no log" if n % 2 else "no T") for n in range(5))
    assert "5 causes could not be looked for: --show verdicts" in page(builders.report(), verdicts=verdicts)
    assert "could not be looked for" not in page(builders.report(), verdicts=())


def test_notes_on_the_input_are_shown_and_the_rest_counted():
    notes = tuple(ReportNote(f"code-{n}", f"odd {n}", -1, -1, "") for n in range(5))
    text = page(builders.report(), notes=notes)
    assert [f"odd {n} [code-{n}]" in text for n in range(5)] == [True, True, True, False, False]
    assert "2 more notes on the input: --show notes" in text


def test_other_findings_have_a_line_each_and_those_for_information_one_together():
    main = builders.finding()
    sign = builders.finding(code="PD601", name="no-live-upstreams", subject="be", message="word " * 60)
    told = builders.finding(code="PD901", name="retried-failure", severity=Severity.INFO)
    text = page(builders.report(main, sign, told))
    assert "Also found" in text
    (line,) = re.findall(r"PD601 no-live-upstreams, .*?\.\.\.", text, re.DOTALL)
    assert len(line) < 240
    assert "For information: PD901 retried-failure (" in text


def test_clients_come_first_and_are_not_said_twice():
    report = builders.report(builders.finding())
    known = page(report, impact=Impact(source="access_log", requests=80, failures=12, hidden_by_retries=0))
    assert known.startswith("12 of 80 client requests failed; 13 of ")
    assert "tries at upstreams" in known
    assert "Clients saw" not in known
    unknown = page(report, impact=Impact(unknown="no log"))
    assert "What clients saw is not known: no log." in " ".join(unknown.split())


def test_a_change_is_named_in_the_first_sentence_only_where_it_mends_the_cause():
    result = analyze("slow_upstream_read_timeout")
    assert "Set " not in result.headline
    assert analyze("idle_close_race_65s").headline.endswith("Set keepalive_timeout 60s at nginx.conf:12.")
    report = analyze("idle_close_race_65s").report
    doubtful = tuple(replace(f, confidence=Confidence.POSSIBLE) for f in report.findings)
    assert "Set keepalive_timeout" not in " ".join(page(report, findings=doubtful).split("what to do")[0].split())


def test_a_change_against_a_cause_that_is_not_the_first_is_named_beside_it():
    report = analyze("idle_close_race_65s").report
    heavier = replace(report.findings[0], code="PD204", name="slow-upstream", failures=900, count=900, changes=())
    text = " ".join(page(report, findings=(heavier, *report.findings), impact=Impact(unknown="no log")).split())
    others = text.split("Also found")[1]
    assert "PD101 idle-close-race, confirmed, 10 times: " in others
    assert " Set keepalive_timeout 60s at nginx.conf:12." in others


def test_a_remedy_for_one_of_several_says_for_whom_it_is():
    one = builders.finding(subject="10.0.0.1:80", remedy="Look at the disk.")
    other = builders.finding(subject="10.0.0.2:80", remedy="Ask the network.", identifier="PD101 other")
    text = page(builders.report(one, other))
    assert "Look at the disk." in text
    assert "Ask the network." not in text
    assert "That is for 10.0.0.1:80; -v has 1 more remedy." in text
    assert "That is for" not in page(builders.report(one))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("slow_upstream_read_timeout", "if they are meant to take so long, let the proxy wait longer"),
        ("silent_drop_on_reuse", "and the value is a guess"),
    ],
)
def test_a_change_that_depends_on_more_is_no_bare_patch(name, said):
    """Of causes other than a race the words around a change say on what it depends, and how sure it is."""
    result = analyze(name)
    assert any(finding.changes for finding in result.captured.findings)
    text = " ".join(result.to_text().split())
    assert said in text
    assert "Set " not in result.headline


def test_what_counts_events_says_what_it_found_once_for_all_upstreams():
    """No request is drawn for it, and the first sentence does not name it."""
    text = page(analyze("no_keepalive").report)
    assert "26 connections to 10.1.1.1:80 carried one request each" in " ".join(text.split())
    assert text.count("carried one request each") == 1
    assert "The same at 10.1.1.2:80 (26 times)" in " ".join(text.split())
