"""PD999: what is left open at the end of a capture."""

from dataclasses import replace

from pcapdiag.base.codes import ExchangeFlag
from pcapdiag.base.findings import Severity
from pcapdiag.rules.diagnose import diagnose
from tests.rules.builders import (
    MS,
    Scene,
    acknowledged,
    fin,
    only,
)


def test_an_attempt_watched_for_less_than_a_second_decides_nothing():
    scene = Scene()
    attempt = scene.attempt()
    attempt = replace(attempt, connection=replace(attempt.connection, last_ts_ns=attempt.request_ts_ns))
    analysis = scene.analysis(attempt, last_ts_ns=attempt.request_ts_ns + 900 * MS)
    finding = only(diagnose(analysis), "PD999")
    assert finding.severity is Severity.INFO


def test_waiting_at_the_end_of_the_capture_is_no_more_than_information():
    scene = Scene()
    finding = only(diagnose(scene.analysis(scene.lost(acknowledged(160)))), "PD999")
    assert finding.severity is Severity.INFO
    assert "when the capture ended" in finding.message


def test_what_was_pipelined_behind_the_last_answer_is_information():
    scene = Scene()
    loss = scene.lost(fin(100), flags=ExchangeFlag.NOT_OWED)
    finding = only(diagnose(scene.analysis(loss)), "PD999")
    assert (finding.severity, "send them again" in finding.message) == (Severity.INFO, True)
