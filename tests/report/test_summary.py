"""What a report says and how briefly: durations in four digits, settings and paragraphs told apart."""

import dataclasses
import json
from collections import Counter
from pathlib import Path

import pytest

from pcapdiag.api.analyze import analyze
from pcapdiag.base.findings import Severity, VerdictKind
from pcapdiag.report.headline import headline, is_judged
from pcapdiag.report.impact import impact_line
from pcapdiag.report.ladder import build_ladder, zero_ns
from pcapdiag.report.model import Impact, ReportNote, RuleVerdict
from pcapdiag.report.remedy import Block, split_blocks, split_code
from pcapdiag.report.summary import (
    brief,
    finding_groups,
    occurrence_grid,
    occurrence_title,
    remedy_title,
    verdict_lines,
)
from tests.report import builders
from tests.scenario import parse, write_capture


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (3_877_202_123, "3.877 s"),
        (3_900_000_000, "3.900 s"),
        (65_004_999_999, "65.00 s"),
        (120_141_724_000, "120.1 s"),
        (7_200_000_000_000, "7200 s"),
        (86_400_000_000_000, "86400 s"),
        (160_234_000, "160.2 ms"),
        (999_999_999, "1.000 s"),
        (58_000, "58.00 us"),
        (1_000, "1.000 us"),
        (999, "999 ns"),
        (7, "7 ns"),
        (0, "0 s"),
    ],
)
def test_a_duration_has_four_digits(ns, text):
    assert brief(ns) == text


def test_indented_lines_are_settings_and_blank_lines_end_paragraphs():
    text = "One\nline.\n\nTwo:\n    upstream be {\n        keepalive_timeout 3s;\n    }\nThree.\n"
    assert split_blocks(text) == (
        Block(("One", "line."), is_code=False),
        Block(("Two:",), is_code=False),
        Block(("upstream be {", "    keepalive_timeout 3s;", "}"), is_code=True),
        Block(("Three.",), is_code=False),
    )


def test_no_text_has_no_blocks():
    assert split_blocks("\n \n") == ()


def test_the_verdict_says_how_many_failures_its_causes_leave_out(cli):
    case = Path(__file__).resolve().parents[2] / "captures" / "connect_refused_and_timeout" / "proxy.pcap"
    whole = json.loads(cli("analyze", case, "--format", "json").stdout)
    causes = Counter()
    for finding in whole["findings"]:
        causes[finding["code"]] += finding["failures"]
    (shown, n_shown), (_, left) = causes.most_common(2)
    assert n_shown + left == whole["totals"]["unanswered"], "the case has two causes"
    text = cli("analyze", case, "--select", shown, "--width", "200").stdout.splitlines()[0]
    assert text.endswith(f"for {left} no cause is shown.")
    assert "no cause is shown" not in cli("analyze", case, "--width", "200").stdout


CASE = Path(__file__).resolve().parents[2] / "captures" / "idle_close_race_65s" / "proxy.pcap"


def one_direction(path, *, of_proxy):
    """Write the frames that the proxy of the case sent, or all others."""
    data = CASE.read_bytes()
    kept, at = [data[:24]], 24
    while at < len(data):
        end = at + 16 + int.from_bytes(data[at + 8 : at + 12], "little")
        if (data[at + 42 : at + 46] == bytes([10, 1, 1, 100])) == of_proxy:
            kept.append(data[at:end])
        at = end
    path.write_bytes(b"".join(kept))
    return path


def test_responses_alone_give_no_verdict(cli, tmp_path):
    report = json.loads(cli("analyze", one_direction(tmp_path / "c.pcap", of_proxy=False), "--format", "json").stdout)
    assert report["findings"] == []
    assert report["totals"]["exchanges"] > 0
    first = cli("analyze", tmp_path / "c.pcap", "--width", "200").stdout.splitlines()[0]
    assert first == "Nothing can be judged: only one direction of the connections to servers was captured."


def test_requests_alone_do_not_tell_whether_a_closing_came_before_them(cli, tmp_path):
    path = one_direction(tmp_path / "c.pcap", of_proxy=True)
    found = json.loads(cli("analyze", path, "--format", "json").stdout)["findings"]
    assert {f["code"] for f in found} == {"PD999"}
    assert all(f["remedy"].startswith("What would decide it: a capture of both directions") for f in found)


def test_codes_that_were_not_evaluated_for_one_reason_stand_together():
    verdicts = [RuleVerdict(f"PD{n}", VerdictKind.NOT_EVALUATED, f"reason {n % 2}") for n in range(4)]
    made = dataclasses.replace(builders.report(), verdicts=tuple(verdicts))
    assert verdict_lines(made) == ((), (("PD0, PD2", "reason 0"), ("PD1, PD3", "reason 1")))


@pytest.mark.parametrize(
    ("remedies", "others"),
    [
        (("Do it.", "Do it."), ""),
        (("Look at A.", "Look at B."), "The same goes for B."),
        (("At A: 3 s.", "At B: 4 s."), "The same goes for B (4 s in place of 3 s)."),
        (("At A: 3.002 s.", "At B: 3.003 s."), "The same goes for B."),
        (("At A: 3.002 s.", "At B: 3.1 s."), "The same goes for B (3.1 s in place of 3.002 s)."),
        (("At A: set 99s.", "At B: set 100s."), "The same goes for B (100s in place of 99s)."),
        (("At A (../a/h.cfg:2, x).", "At B (../a/h.cfg:3, x)."), "The same goes for B (h.cfg:3 in place of h.cfg:2)."),
        (("At A (../1/h.c:2).", "At B (../2/h.c:2)."), "The same goes for B (../2/h.c:2 in place of ../1/h.c:2)."),
        (("Do it.",), ""),
    ],
)
def test_a_remedy_is_said_once(remedies, others):
    # Subjects as they are: addresses, which count as numbers.
    names = {"A": "10.0.0.1:80", "B": "10.0.0.2:80"}

    def spelled(text):
        return text.replace("A", names["A"]).replace("B", names["B"])

    pairs = zip(names.values(), remedies, strict=False)
    found = [builders.finding(subject=subject, remedy=spelled(text)) for subject, text in pairs]
    made = builders.report(*found)
    ((remedy),) = finding_groups(made)[0].remedies
    assert remedy.others == spelled(others)
    assert remedy.text == spelled(remedies[0])


def test_turns_of_bytes_are_said_to_be_no_requests():
    made = builders.report(n_unanswered=0)
    turned = dataclasses.replace(made, totals=dataclasses.replace(made.totals, turns=4))
    assert headline(turned).endswith(
        "4 of them are counted by turns of bytes (TLS, or not HTTP/1): what a turn holds is not seen."
    )
    assert "turns" not in headline(made)


def test_what_only_the_log_tells_has_no_milliseconds():
    told = builders.report(builders.finding(occurrences=(builders.occurrence(uid=""),))).findings[0].occurrences[0]
    seen = dataclasses.replace(told, uid="x")
    assert occurrence_title(told).endswith(" UTC (log)")
    assert "." in occurrence_title(seen).rsplit(", ", 1)[-1]
    assert "." not in occurrence_title(told).rsplit(", ", 1)[-1]
    assert zero_ns(told) == min(e.ts_ns for e in told.evidence)
    assert zero_ns(seen) == seen.request_ts_ns
    assert build_ladder(told).lines[0].time == "0"
    assert build_ladder(told).header.startswith("proxy ")
    assert "peers of" in build_ladder(told).header


def test_the_impact_says_none_where_there_is_none():
    impact = Impact("access_log", 72, 24, 0, 0, 12, 0)
    assert impact_line(impact) == (
        "Clients saw 24 failures of 72 requests; retries hid none; in 12 seconds somebody was not served (access log,"
        " within the time of the capture)."
    )


def test_errors_that_left_no_request_open_stand_in_the_headline_too():
    race, sign = builders.finding(), builders.finding(code="PD402", name="invalid-response", occurrences=(), count=10)
    assert headline(builders.report(race, sign)).endswith(". Other errors: 10 x PD402 invalid-response.")
    assert "Other errors" not in headline(builders.report(race))


def test_an_occurrence_without_a_file_makes_no_column_of_files():
    seen = builders.report(builders.finding()).findings[0].occurrences[:2]
    grid = occurrence_grid([seen[0], dataclasses.replace(seen[1], capture="")])
    assert grid.headers[0] == "frame"


def test_connections_that_two_captures_hold_are_said_to_count_once(cli):
    def notes(*arguments):
        return [n["code"] for n in json.loads(cli("analyze", *arguments, "--format", "json").stdout)["notes"]]

    far = CASE.with_name("upstream_a.pcap")
    assert notes(CASE, far) == ["captured-twice"]
    assert notes(CASE, "--upstream-capture", far) == []
    assert notes(CASE, CASE.parents[1] / "healthy_keepalive" / "proxy.pcap") == []


def test_a_response_that_was_still_coming_is_not_said_to_have_come():
    made = builders.report(n_unanswered=0)
    open_one = dataclasses.replace(made, totals=dataclasses.replace(made.totals, pending=1))
    assert headline(open_one).endswith("none unanswered; 1 response still coming when the capture ended.")


def test_the_first_line_says_on_which_connections_nothing_is_evaluated():
    text = "3 of 4 connections to upstreams carry HTTP/2; its streams are not told apart yet"
    notes = (ReportNote("http2-not-evaluated", text, -1, -1, ""),)
    quiet = dataclasses.replace(builders.report().totals, unanswered=0, failed_connects=0, truncated=0, turns=0)
    report = dataclasses.replace(builders.report(), notes=notes, totals=quiet, findings=())
    said = "Not evaluated: HTTP/2 (3 of 4 connections to upstreams carry HTTP/2). "
    assert headline(report).startswith(f"{said}On the others no request was lost: ")
    unasked = tuple(dataclasses.replace(u, exchanges=0, unanswered=0) for u in report.upstreams)
    alone = dataclasses.replace(report, upstreams=unasked)
    assert headline(alone).startswith(f"{said}Whether a request was lost on them is not known.")
    assert not is_judged(alone)


def told_for_information(n=1):
    return builders.finding(
        code="PD999",
        severity=Severity.INFO,
        message="It was still waiting when the capture ended.",
        occurrences=tuple(builders.occurrence(request_frame=900 + i, evidence=()) for i in range(n)),
    )


def test_what_is_told_for_information_is_not_called_lost():
    made = builders.report(told_for_information(), n_unanswered=1)
    expected = "No request is known to be lost; for information: it was still waiting when the capture ended (PD999"
    assert headline(made).startswith(expected)


@pytest.mark.parametrize(
    ("still_open", "words"), [(0, "1 request is told for information only"), (1, "1 request was still open")]
)
def test_what_is_told_for_information_is_counted_apart(still_open, words):
    made = builders.report(builders.finding(), told_for_information(), n_unanswered=14)
    made = dataclasses.replace(made, totals=dataclasses.replace(made.totals, still_open=still_open))
    assert headline(made).startswith("13 of ")
    assert f"got no answer ({words}" in headline(made)


def test_a_wave_for_information_does_not_hide_the_error_beside_it():
    made = builders.report(told_for_information(40), builders.finding(), n_unanswered=53)
    assert "closed the idle connection" in headline(made).split(";")[0]


@pytest.mark.parametrize(
    ("n_unanswered", "n_truncated", "words"),
    [(0, 1, "its cause is not shown"), (1, 1, "their causes are not shown"), (2, 0, "their causes are not shown")],
)
def test_failures_without_a_finding_are_said_in_the_right_number(n_unanswered, n_truncated, words):
    made = builders.report(n_unanswered=n_unanswered)
    made = dataclasses.replace(made, totals=dataclasses.replace(made.totals, truncated=n_truncated))
    assert words in headline(made)


def test_the_headline_names_the_other_upstreams_of_what_it_tells():
    errors = [
        builders.finding(code="PD403", name="n", subject=s, message="It broke.", occurrences=(), count=n)
        for s, n in (("10.0.0.1:80", 5), ("10.0.0.2:80", 2), ("10.0.0.3:80", 1))
    ]
    made = dataclasses.replace(
        builders.report(*errors), totals=dataclasses.replace(builders.report(*errors).totals, unanswered=0, truncated=0)
    )
    assert "it broke. Likewise 10.0.0.2:80, 10.0.0.3:80." in headline(made)
    alone = dataclasses.replace(made, findings=made.findings[:1])
    assert "Likewise" not in headline(alone)


def test_remedies_of_one_upstream_have_headings_that_tell_them_apart():
    found = [
        builders.finding(subject="10.0.0.1:80", identifier=f"PD101/10.0.0.1:80/{own}", remedy=remedy)
        for own, remedy in (("idle-4s", "Lower it."), ("other-age", "Let it drain."))
    ]
    titles = [remedy_title(r.subjects, 2) for r in finding_groups(builders.report(*found))[0].remedies]
    assert titles == ["Remedy for 10.0.0.1:80 (idle 4s)", "Remedy for 10.0.0.1:80 (other age)"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("in nginx `proxy_pass x`, so", (("in nginx ", False), ("proxy_pass x", True), (", so", False))),
        ("`a`", (("a", True),)),
        ("one ` alone", (("one ` alone", False),)),
        ("``", (("``", False),)),
        ("", ()),
    ],
)
def test_what_stands_between_backticks_is_code(text, parts):
    assert split_code(text) == parts


FASTCGI_BEGIN = "0101000100080000" + "0001010000000000"
FASTCGI_STDIN_END = "0105000100000000"
FASTCGI_ANSWER = (
    "0106000100120600" + b"Status: 401 No\r\n\r\n".hex() + "00" * 6 + "0103000100080000" + "0000000000000000"
)


def fastcgi(name, value):
    return f"{len(name):02x}{len(value):02x}" + (name + value).encode().hex()


@pytest.mark.parametrize("is_named", [True, False])
def test_requests_of_fastcgi_that_are_read_are_no_turns(tmp_path, is_named):
    """Method, target and status are known there."""
    pairs = fastcgi("REQUEST_METHOD", "GET") + fastcgi("REQUEST_URI", "/a") if is_named else fastcgi("A", "b")
    params = f"01040001{len(pairs) // 2:04x}0000{pairs}" + "0104000100000000"
    sent = "".join(f"\\x{b:02x}" for b in bytes.fromhex(FASTCGI_BEGIN + params + FASTCGI_STDIN_END))
    answer = "".join(f"\\x{b:02x}" for b in bytes.fromhex(FASTCGI_ANSWER))
    script = f'+0 > S\n+0.01 < S.\n+0 > .\n+0.1 > P. "{sent}"\n+0.02 < P. "{answer}"\n+0 > .\n'
    path = tmp_path / "a.pcap"
    path.write_bytes(write_capture(parse(script)))
    report = analyze(path, proxies=["10.9.0.100"]).report
    assert report.totals.exchanges == 1
    assert report.totals.turns == (0 if is_named else 1)
    assert ("turns of bytes" in headline(report)) is not is_named
