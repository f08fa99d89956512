"""What the capture lacks of an upstream: whoever took it, or logged it, did not give up on silence."""

import errno

import pytest

from pcapdiag.base.codes import ExchangeFlag, Key, Protocol
from pcapdiag.base.findings import Severity
from pcapdiag.proxy.join.ledger import JoinedTry, Ledger, WireVerdict
from pcapdiag.proxy.logs.entries import LogKind
from pcapdiag.rules._unseen import n_taken_unseen
from pcapdiag.rules._wire import proxy_closing
from pcapdiag.rules.diagnose import diagnose
from tests.proxy.join.builders import entry, wire
from tests.rules.builders import BEFORE, END, Scene, Seg, acknowledged, causes_of, only, proxy_fin

WAIT_MS = 1_530


def gives_up(scene, taken, **changes):
    return scene.lost(acknowledged(160), proxy_fin(WAIT_MS, BEFORE + taken), **changes)


@pytest.mark.parametrize("taken", [0, 1, 126, 70_000])
def test_what_the_closing_takes_beyond_what_was_captured_is_counted(taken):
    loss = gives_up(Scene(), taken)
    assert n_taken_unseen(loss, proxy_closing(loss)) == taken
    assert n_taken_unseen(loss, None) == 0


@pytest.mark.parametrize(
    "changes", [{"flags": ExchangeFlag.INTERIM}, {"flags": ExchangeFlag.PIPELINED}, {"protocol": Protocol.TLS}]
)
def test_where_something_else_may_have_been_taken_nothing_is_said(changes):
    loss = gives_up(Scene(), 126, **changes)
    assert n_taken_unseen(loss, proxy_closing(loss)) == 0


@pytest.mark.parametrize("taken", [1, 126])
def test_a_late_acknowledgement_behind_what_is_missing_does_not_show_it(taken):
    """Its sequence number says that something was sent before it, which the capture lacks all the same."""
    scene = Scene()
    late = Seg(Key.ACK, WAIT_MS + 100, BEFORE + taken, END)
    loss = scene.lost(late, proxy_fin(WAIT_MS, BEFORE + taken))
    assert n_taken_unseen(loss, proxy_closing(loss)) == taken
    assert "PD206" not in causes_of(scene.analysis(loss))


@pytest.mark.parametrize(("taken", "code"), [(0, "PD206"), (31, "PD999")])
def test_inside_tls_who_took_records_that_the_capture_lacks_did_not_give_up(taken, code):
    """One of them may be a close_notify; of a timeout of the proxy's own it may be a session ticket."""
    scene = Scene()
    assert causes_of(scene.analysis(gives_up(scene, taken, protocol=Protocol.TLS))) == {code: 1}
    late = scene.lost(acknowledged(160), proxy_fin(60_001, BEFORE + taken), protocol=Protocol.TLS)
    assert causes_of(scene.analysis(late)) == {"PD204": 1}


@pytest.mark.parametrize(("is_framed", "code"), [(True, "PD206"), (False, "PD999")])
def test_bytes_from_before_the_capture_may_have_been_answered_before_it(is_framed, code):
    scene = Scene()
    loss = gives_up(scene, 0, idle_ms=-1, flags=ExchangeFlag.MID_STREAM, is_framed=is_framed)
    assert causes_of(scene.analysis(loss)) == {code: 1}


def test_a_proxy_that_took_nothing_gave_up():
    scene = Scene()
    assert causes_of(scene.analysis(gives_up(scene, 0))) == {"PD206": 1}


@pytest.mark.parametrize(("taken", "severity"), [(1, Severity.WARNING), (126, Severity.INFO)])
def test_a_proxy_that_took_what_the_capture_lacks_gave_up_nothing(taken, severity):
    scene = Scene()
    finding = only(diagnose(scene.analysis(gives_up(scene, taken))), "PD999")
    assert finding.severity is severity
    assert "most likely the answer" in finding.message or "that closing is not in the capture" in finding.message


@pytest.mark.parametrize(
    ("kind", "number", "code"),
    [
        (LogKind.PREMATURE_CLOSE, -1, "PD999"),
        (LogKind.RECV_FAILED, errno.ECONNRESET, "PD999"),
        (LogKind.RECV_FAILED, errno.ETIMEDOUT, "PD206"),
        (LogKind.CLIENT_CLOSED, -1, "PD206"),
    ],
)
def test_a_log_that_says_who_ended_it_outranks_a_closing_that_was_seen_alone(kind, number, code):
    scene = Scene()
    loss = gives_up(scene, 0)
    entries = (entry(0, kind=kind, errno=number),)
    attempt = wire(0, conn=loss.connection.conn, depth=loss.depth)
    log = Ledger(clock=None, entries=(), tries=(JoinedTry(attempt, WireVerdict.LOGGED, entries, None),))
    assert causes_of(scene.analysis(loss, log=log)) == {code: 1}
