"""PD404: streams that were not processed, by the upstream's own word; and what looks like them."""

import pytest

import pcapdiag
from pcapdiag.base.codes import Key
from tests.http2_frames import CANCEL, INTERNAL_ERROR, REFUSED_STREAM, answer, capture, goaway, headers, request, reset
from tests.scenario import ORIG, RESP

FIRST = ((1, ORIG, request(1)), (40, RESP, answer(1)))


def found(tmp_path, *said):
    path = tmp_path / "h2.pcap"
    path.write_bytes(capture(*FIRST, *said))
    result = pcapdiag.analyze(path)
    return result, {f.code: f for f in result.found if f.severity}


def test_a_stream_beyond_goaway_was_not_processed(tmp_path):
    said = ((20, ORIG, request(3)), (20, RESP, goaway(1, INTERNAL_ERROR)), (1, RESP, "FIN"))
    _, findings = found(tmp_path, *said)
    assert set(findings) == {"PD404"}
    assert "GOAWAY (INTERNAL_ERROR, error 2)" in findings["PD404"].message
    assert findings["PD404"].identifier.endswith("/goaway-2")


def test_a_refused_stream_was_not_processed_and_another_error_says_nothing_of_that(tmp_path):
    said = ((20, ORIG, request(3) + request(5)), (20, RESP, reset(3, REFUSED_STREAM) + reset(5, CANCEL)))
    _, findings = found(tmp_path, *said, (30, ORIG, "FIN"), (30, RESP, "FIN"))
    assert set(findings) == {"PD404", "PD202"}
    assert "refused 1 stream (RST_STREAM, REFUSED_STREAM, error 7)" in findings["PD404"].message
    assert "RST_STREAM (CANCEL, error 8)" in findings["PD202"].message


def test_an_idle_connection_that_ends_without_error_is_the_idle_race(tmp_path):
    """Servers end idle connections with GOAWAY and FIN; a FIN that acknowledges none of the request crossed it."""
    crossing = len(request(3))
    said = ((5_000, ORIG, request(3)), (1, RESP, goaway(1), crossing), (0, RESP, "FIN", crossing), (80, ORIG, "FIN"))
    _, findings = found(tmp_path, *said)
    assert set(findings) == {"PD101"}


def test_a_goaway_that_spares_the_stream_leaves_the_closing_its_cause(tmp_path):
    said = ((20, ORIG, request(3)), (20, RESP, goaway(3)), (500, RESP, "FIN"))
    _, findings = found(tmp_path, *said)
    assert set(findings) == {"PD201"}


@pytest.mark.parametrize("n_others", [1, 3])
def test_a_fin_that_crosses_a_stream_beside_others_is_no_idle_close(tmp_path, n_others):
    others = b"".join(headers(3 + 2 * k) for k in range(n_others))
    last = request(3 + 2 * n_others)
    said = ((5_000, ORIG, others), (200, ORIG, last), (1, RESP, "FIN", len(last)), (80, ORIG, "FIN"))
    _, findings = found(tmp_path, *said)
    assert "PD101" not in findings
    assert set(findings) == {"PD201"}


def test_a_stream_opened_after_goaway_was_read_is_told_as_such(tmp_path):
    said = ((20, RESP, goaway(1)), (20, ORIG, request(3)), (90, RESP, "FIN"))
    _, findings = found(tmp_path, *said)
    assert "Of 1 the client had acknowledged that GOAWAY before it opened the stream." in findings["PD404"].message


def test_its_frames_stand_in_the_proof(tmp_path):
    result, _ = found(tmp_path, (20, ORIG, request(3)), (20, RESP, goaway(1)), (50, RESP, "FIN"))
    (loss,) = result.analysis.losses
    assert (loss.target, loss.stream, loss.stream_error) == ("/p.S/Call", 3, 0)
    (finding,) = (f for f in result.found if f.code == "PD404")
    assert loss.keys[Key.GOAWAY].frame in {e.frame for e in finding.occurrences[0].evidence}
