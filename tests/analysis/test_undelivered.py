"""Answers that were sent again and never acknowledged to their end, and what only looks like it."""

import pytest

from pcapdiag.analysis.build import build_analysis
from pcapdiag.api.analyze import analyze
from pcapdiag.base.findings import Confidence
from pcapdiag.engine.capture.series import group_captures
from tests.rules.builders import only
from tests.scenario import parse, write_capture

OPEN = "+0 > S\n+0.001 < S.\n+0.001 > .\n"
ASK = '+0.1 > P. "GET /x HTTP/1.1\\r\\nHost: a.test\\r\\n\\r\\n"\n+0.001 < .\n'
HEAD = '"HTTP/1.1 200 OK\\r\\nContent-Length: {n}\\r\\n\\r\\n"'
LENGTH = {n: len(f"HTTP/1.1 200 OK\r\nContent-Length: {n}\r\n\r\n") for n in (200, 1400, 3000)}


def answer(n=1400, sent=None, again=4, every=0.5, close="+60 > F. ack {acked}\n", behind=0):
    """Return a script: the head arrives, the body is sent again and again, and the proxy closes."""
    begin = 1 + behind + LENGTH[n]
    end = begin + (sent or n)
    body = f"{begin}:{end}({end - begin})"
    lines = [f"+0.001 < P. {HEAD.format(n=n)}", "+0.001 > .", f"+0.001 < P. {body}"]
    lines += [f"+{every} < P. {body}"] * again
    return "\n".join(lines) + "\n" + close.format(acked=begin, all=end)


def analysis_of(tmp_path, script, **form):
    path = tmp_path / "a.pcap"
    path.write_bytes(write_capture(parse(OPEN + ASK + script), **form))
    return build_analysis(group_captures([str(path)]))


def undelivered(analysis):
    return [(loss.depth, loss.n_undelivered) for loss in analysis.truncated if loss.n_undelivered]


@pytest.mark.parametrize("isn", [0, 2**32 - 40, 2**32 - 700])
def test_an_answer_that_was_repeated_and_not_acknowledged_did_not_arrive(tmp_path, isn):
    assert undelivered(analysis_of(tmp_path, answer(), resp_isn=isn)) == [(0, 1400)]


@pytest.mark.parametrize(
    "script",
    [
        answer(close="+60 > F. ack {all}\n"),
        answer(close="+0.1 > .\n+60 > F.\n"),
        answer(again=1),
        answer(close=""),
        answer(again=3, every=0.01, close="+0.05 > R. ack {acked}\n"),
        answer(again=3, every=0.3, close="+1 > R. ack {acked}\n"),
    ],
    ids=["acknowledged by the FIN", "acknowledged", "once", "not closed", "in flight", "soon"],
)
def test_what_came_in_the_end_or_may_still_come_is_delivered(tmp_path, script):
    analysis = analysis_of(tmp_path, script)
    assert analysis.truncated == ()


@pytest.mark.parametrize("lost", ["", " lost"])
def test_where_the_capture_has_holes_nothing_is_known(tmp_path, lost):
    n = LENGTH[3000]
    before = f"+0.001 < P. {HEAD.format(n=3000)}\n+0 < . {1 + n}:{1501 + n}(1500){lost}\n"
    before += f"+0 < P. {1501 + n}:{3001 + n}(1500)\n+0.001 > .\n{ASK}"
    analysis = analysis_of(tmp_path, before + answer(behind=n + 3000))
    assert undelivered(analysis) == ([] if lost else [(1, 1400)])


def test_an_answer_without_its_end_is_told_as_well_and_was_not_silence(tmp_path):
    script = answer(3000, sent=1448, close="+58 > F. ack {acked}\n")
    assert undelivered(analysis_of(tmp_path, script)) == [(0, 1448)]
    report = analyze(tmp_path / "a.pcap", proxies=["10.0.0.1"]).report
    assert [f.code for f in report.findings] == ["PD502"]


def test_a_large_one_may_be_the_paths_mtu_and_a_small_one_is_undetermined(tmp_path):
    analysis_of(tmp_path, answer())
    finding = only(analyze(tmp_path / "a.pcap").report, "PD502")
    assert finding.confidence is Confidence.POSSIBLE
    assert "the last 1,400 bytes again and again" in finding.message
    analysis_of(tmp_path, answer(200))
    assert "had not acknowledged the end" in only(analyze(tmp_path / "a.pcap").report, "PD999").message


def test_where_another_large_answer_came_size_explains_nothing(tmp_path):
    n = LENGTH[3000]
    whole = OPEN + ASK + f"+0.001 < P. {HEAD.format(n=3000)}\n+0.001 < P. {1 + n}:{3001 + n}(3000)\n+0.001 > .\n"
    other = "".join(f"{line.partition(' ')[0]} @1 {line.partition(' ')[2]}\n" for line in whole.splitlines())
    analysis_of(tmp_path, answer() + other)
    report = analyze(tmp_path / "a.pcap").report
    assert [f.code for f in report.findings] == ["PD999"]
