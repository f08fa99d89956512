"""What counts as a loss of the upstream leg, and what a rule is told of it."""

import numpy as np
import pytest

from pcapdiag.analysis.candidates import find_candidates
from pcapdiag.analysis.losses import build_losses
from pcapdiag.base.codes import Direction, ExchangeFlag, Key, Leg, Method
from pcapdiag.base.columns import CONNECTIONS, EXCHANGES, KEY_SEGMENTS
from pcapdiag.base.tables import ByteStore, RowStore, Table
from pcapdiag.engine.http.framer import Framer
from pcapdiag.engine.tcp.tracker import Tracker
from tests.engine.tcp.kernels.plain_tcp import from_script, make_batch

S = 10**9
OPEN = "+0 > S\n+0.02 < S.\n+0.0001 > .\n"
GET = '"GET /a HTTP/1.1\\r\\nHost: h\\r\\nX-Request-Id: r7\\r\\n\\r\\n"'
OK = '"HTTP/1.1 200 OK\\r\\nServer: s/1\\r\\nContent-Length: 2\\r\\n\\r\\nok"'
ANSWERED = OPEN + f"+0 > P. {GET}\n+0.1 < P. {OK}\n+0 > .\n"


def losses_of(script, *, leg=Leg.UPSTREAM, protocol=None):
    """Return (losses, truncated) of a script, all its connections on one leg."""
    exchanges, keys, texts = RowStore(EXCHANGES), RowStore(KEY_SEGMENTS), ByteStore()
    tracker, framer = Tracker(), Framer(exchanges, keys, texts)
    rows = []
    for tracked in tracker.update(make_batch(from_script(script))):
        framer.update(tracked)
        rows.append(tracked.conn_rows.copy())
    for tracked in tracker.finish():
        framer.update(tracked)
        rows.append(tracked.conn_rows.copy())
    connections = np.sort(np.concatenate(rows), order="conn")
    found = exchanges.table().rows.copy()
    if protocol is not None:
        found["protocol"] = protocol
    legs = np.full(len(connections), leg, dtype=np.int8)
    tables = Table(CONNECTIONS, connections), Table(EXCHANGES, found), keys.table()
    candidates = find_candidates(*tables, legs, last_ts_ns=0)
    losses, truncated, _ = build_losses(tables[0], candidates, keys.table(), texts)
    return losses, truncated


def test_an_answered_request_is_no_loss():
    assert losses_of(ANSWERED + "+5 < F.") == ((), ())


def test_an_unanswered_request_is_a_loss_with_all_that_was_seen_of_it():
    (loss,), truncated = losses_of(ANSWERED + f"+7 > P. {GET}\n+0.01 < F. ack 49\n+0 < R")
    assert truncated == ()
    assert (loss.depth, loss.request_frame, loss.idle_before_ns) == (1, 6, 7 * S)
    assert (loss.request_seq, loss.request_end_seq, loss.request_ack) == (1047, 1093, 5054)
    assert (loss.method, loss.target, loss.host, loss.request_id) == (Method.GET, "/a", "h", "r7")
    assert set(loss.keys) == {Key.SYN, Key.SYN_ACK, Key.RESPONSE_BEFORE, Key.REQUEST, Key.RESP_FIN, Key.RESP_RST}
    assert loss.keys[Key.RESP_FIN].frame == 7
    assert loss.keys[Key.RESP_FIN].dir == Direction.RESP
    assert not loss.truncated
    c = loss.connection
    assert (str(c.orig), str(c.resp), c.server) == ("10.0.0.100:40000", "10.0.0.1:8080", "s/1")
    assert (c.first_closer, c.closing_frame) == (Direction.RESP, 7)
    assert c.uid.endswith(f"@{S}")


@pytest.mark.parametrize("leg", [Leg.CLIENT, Leg.UNKNOWN])
def test_on_another_leg_it_is_none(leg):
    assert losses_of(OPEN + f"+0 > P. {GET}\n+1 < R.", leg=leg) == ((), ())


def test_a_response_that_broke_off_is_told_apart():
    losses, (cut,) = losses_of(OPEN + f'+0 > P. {GET}\n+1 < P. "HTTP/1.1 200 OK\\r\\nContent-Le"\n+1 < R.')
    assert losses == ()
    assert cut.truncated
    assert cut.status_code == 200


def test_a_late_answer_is_a_loss():
    (loss,), _ = losses_of(OPEN + f"+0 > P. {GET}\n+60 > F.\n+1 < P. {OK}\n+0 > R")
    assert loss.flags & ExchangeFlag.LATE_ANSWER


@pytest.mark.parametrize(
    ("script", "syn_frames", "retransmissions"),
    [
        ("+0 > S", 1, 0),
        ("+0 > S\n+1 > S 0:0(0)\n+2 > S 0:0(0)", 3, 2),
        ("+0 > S\n+0.1 < R. ack 1", 1, 0),
    ],
)
def test_an_attempt_that_failed_is_a_loss_before_any_request(script, syn_frames, retransmissions):
    (loss,), _ = losses_of(script)
    assert (loss.depth, loss.method, loss.request_seq) == (-1, Method.NONE, -1)
    assert (loss.request_frame, loss.request_ts_ns) == (0, S)
    assert loss.connection.syn_frames == syn_frames
    assert loss.retransmissions == retransmissions
    assert loss.keys[Key.SYN].frame == 0


@pytest.mark.parametrize("script", [OPEN, OPEN + "+9 < F.", OPEN + "+9 < R.", "+0 > S\n+0.1 > R", "+0 < S. ack 1"])
def test_a_connection_that_opened_or_was_given_up_lost_nothing(script):
    assert losses_of(script) == ((), ())


@pytest.mark.parametrize(
    ("ending", "n_loss"),
    [
        ("+1 < F.", 0),
        ("+1 < R.", 1),
        ("+1 > F.\n+0 < F.", 0),
        ("+1 > R.", 0),
        ("+1 < . ack 5", 0),
        ("", 0),
        ('+1 > P. 1:5(4) "ping"\n+2 > P. 1:5(4) "ping"', 1),
        ('+1 > P. 1:5(4) "ping"\n+2 < . ack 5', 0),
    ],
)
def test_a_turn_of_an_unknown_protocol_is_lost_only_if_it_was_cut_off(ending, n_loss):
    """By the responder or by silence: many protocols end with the originator's last words."""
    assert len(losses_of(OPEN + f'+0 > P. "ping"\n{ending}')[0]) == n_loss


def test_protocols_without_turns_have_no_losses():
    from pcapdiag.base.codes import Protocol

    script = OPEN + f"+0 > P. {GET}\n+1 < R."
    assert len(losses_of(script)[0]) == 1
    for protocol in (Protocol.HTTP2_UNREAD, Protocol.UPGRADED):
        assert losses_of(script, protocol=protocol) == ((), ())


def test_losses_are_in_order_of_their_frames():
    lost = f"+0 > P. {GET}\n+0.01 < R.\n"
    script = (
        OPEN
        + lost
        + "+0 @1 > S\n"
        + "+1 @2 > S\n+0.1 @2 < S.\n"
        + lost.replace("> P", "@2 > P").replace("< R", "@2 < R")
    )
    losses, _ = losses_of(script.replace("+0 @1", "+0 @1"))
    assert [x.request_frame for x in losses] == sorted(x.request_frame for x in losses)
    assert [x.depth for x in losses] == [0, -1, 0]


def test_text_that_is_no_utf_8_survives_byte_by_byte():
    (loss,), _ = losses_of(OPEN + '+0 > P. "GET /\\xff\\x00 HTTP/1.1\\r\\n\\r\\n"\n+1 < R.')
    assert loss.target == "/\\xff\x00"
