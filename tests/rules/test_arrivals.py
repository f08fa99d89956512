"""What a line of the application's log, there or missing, does to a cause."""

from dataclasses import replace

from pcapdiag.base.findings import Confidence
from pcapdiag.proxy.join.arrivals import Arrival, ArrivalVerdict
from pcapdiag.rules.diagnose import diagnose
from tests.rules.builders import Scene, acknowledged, fin, proxy_fin, rst


def weighed(verdict, *segments):
    scene = Scene()
    lost = scene.lost(*segments)
    analysis = scene.analysis(lost)
    arrival = Arrival(verdict, "request id", "app.log", 9 if verdict is ArrivalVerdict.ARRIVED else -1, (3, 4))
    analysis = replace(analysis, arrivals={(lost.connection.conn, lost.depth): arrival})
    return diagnose(analysis).findings[0]


RACE = fin(127), proxy_fin(127.1), rst(160)

DIED = acknowledged(160), fin(700, ack=247)


def test_a_line_in_the_application_s_log_speaks_against_a_race():
    finding = weighed(ArrivalVerdict.ARRIVED, *RACE)
    assert (finding.code, finding.confidence) == ("PD101", Confidence.POSSIBLE)
    assert "speaks against this cause" in finding.message
    assert finding.occurrences[0].log_lines == ("app.log:9",)


def test_a_missing_line_does_not_make_a_race_less_certain_and_is_named():
    finding = weighed(ArrivalVerdict.NOT_IN_LOG, *RACE)
    assert (finding.code, finding.confidence) == ("PD101", Confidence.CONFIRMED)
    assert "has no line for it, though it has what came before and after (by request id)" in finding.message
    assert "(line 3) and after (line 4)" in finding.occurrences[0].upstream_log


def test_a_line_supports_that_the_upstream_had_the_request():
    with_line, without = (weighed(v, *DIED) for v in (ArrivalVerdict.ARRIVED, ArrivalVerdict.NOT_IN_LOG))
    assert with_line.code == without.code == "PD201"
    assert with_line.confidence >= without.confidence
    assert "written at the end" in without.occurrences[0].upstream_log


def test_what_proves_nothing_changes_nothing():
    finding = weighed(ArrivalVerdict.NOT_COVERED, *RACE)
    assert finding.confidence is Confidence.CONFIRMED
    assert "application" not in finding.message
