"""PD999: what is left open at the end of a capture."""

from dataclasses import replace

import pytest

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


PART = ExchangeFlag.ACKNOWLEDGED_PART


@pytest.mark.parametrize(
    ("watched_ms", "severity", "words"),
    [
        (900, Severity.INFO, "still being sent when the capture ended"),
        (1_100, Severity.WARNING, "the proxy stopped inside the request"),
    ],
)
def test_an_upload_watched_for_less_than_a_second_was_not_stopped(watched_ms, severity, words):
    scene = Scene()
    loss = scene.lost(flags=PART | ExchangeFlag.REQUEST_OPEN)
    loss = replace(loss, connection=replace(loss.connection, last_ts_ns=loss.request_ts_ns))
    finding = only(diagnose(scene.analysis(loss, last_ts_ns=loss.request_ts_ns + watched_ms * MS)), "PD999")
    assert (finding.severity, words in finding.message) == (severity, True)


def test_of_one_direction_alone_nobody_knows_who_waits():
    scene = Scene()
    loss = scene.lost(idle_ms=-1, resp_ttl=-1)
    finding = only(diagnose(scene.analysis(loss)), "PD999")
    assert (finding.severity, "nothing of the other direction" in finding.message) == (Severity.INFO, True)
    assert "waiting" not in finding.message


def test_what_was_pipelined_behind_the_last_answer_is_information():
    scene = Scene()
    loss = scene.lost(fin(100), flags=ExchangeFlag.NOT_OWED)
    finding = only(diagnose(scene.analysis(loss)), "PD999")
    assert (finding.severity, "send them again" in finding.message) == (Severity.INFO, True)
