"""The detector and the full analysis decide alike what a loss is."""

from dataclasses import replace
from itertools import chain

import numpy as np
import pytest

from pcapdiag.analysis.candidates import find_candidates
from pcapdiag.analysis.inputs import NO_INPUTS
from pcapdiag.analysis.losses import build_losses
from pcapdiag.base.codes import Leg
from pcapdiag.base.columns import CONNECTIONS, EXCHANGES, KEY_SEGMENTS
from pcapdiag.base.tables import ByteStore, RowStore, Table
from pcapdiag.engine.http.framer import Framer
from pcapdiag.engine.tcp.tracker import Tracker
from pcapdiag.watch.detect import Detector
from tests.engine.tcp.kernels.plain_tcp import SERVER, from_script, make_batch

OPEN = "+0 > S\n+0.02 < S.\n+0.0001 > .\n"
GET = '"GET /a HTTP/1.1\\r\\nHost: h\\r\\n\\r\\n"'
OK = '"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok"'
PING = '+0 > P. "ping"\n'
AGAIN = '+1 > P. 1:5(4) "ping"\n+2 > P. 1:5(4) "ping"\n'
REUSED = "+9 > S 7000:7000(0)\n+0.02 < S.\n+0.0001 > ."
"""The port is used anew at once: the connection before ends without having been looked at."""


def n_lost(script):
    """Return how many losses of the upstream leg a full analysis finds."""
    exchanges, keys, texts = RowStore(EXCHANGES), RowStore(KEY_SEGMENTS), ByteStore()
    tracker, framer = Tracker(), Framer(exchanges, keys, texts)
    rows = []
    for tracked in chain(tracker.update(make_batch(from_script(script))), tracker.finish()):
        framer.update(tracked)
        rows.append(tracked.conn_rows.copy())
    connections = Table(CONNECTIONS, np.sort(np.concatenate(rows), order="conn"))
    legs = np.full(len(connections), Leg.UPSTREAM, dtype=np.int8)
    candidates = find_candidates(connections, exchanges.table(), keys.table(), legs, last_ts_ns=0)
    return sum(map(len, build_losses(connections, candidates, keys.table(), texts)))


def n_seen(script):
    detector = Detector(NO_INPUTS)
    return len(detector.update(make_batch(from_script(script)))) + len(detector.look())


@pytest.mark.parametrize(
    ("script", "n"),
    [
        (OPEN + f"+0 > P. {GET}\n+0.1 < P. {OK}\n+0 > .\n+5 < F.", 0),
        (OPEN + f"+0 > P. {GET}\n+1 < R.", 1),
        (OPEN + f"+0 > P. {GET}\n+1 < F.", 1),
        (OPEN + f'+0 > P. {GET}\n+1 < P. "HTTP/1.1 200 OK\\r\\nContent-Le"\n+1 < R.', 1),
        (OPEN + f"+0 > P. {GET}\n+60 > F.\n+1 < P. {OK}\n+0 > R", 1),
        (OPEN + PING + "+1 < F.", 0),
        (OPEN + PING + "+1 < R.", 1),
        (OPEN + PING + "+1 > F.\n+0 < F.", 0),
        (OPEN + PING + "+1 > R.", 0),
        (OPEN + PING + "+1 < . ack 5", 0),
        (OPEN + PING + AGAIN + "+9 > .", 1),
        (OPEN + PING + AGAIN + "+9 > F.", 1),
        (OPEN + PING + AGAIN + "+0 < . ack 5\n+9 > F.", 0),
        ("+0 > S\n+0.1 < R. ack 1", 1),
        ("+0 > S\n+0.1 > R\n+9 > R", 0),
        ("+0 < S. ack 1", 0),
        (OPEN + f"+0 > P. {GET}\n" + REUSED, 1),
        (OPEN + PING + AGAIN + REUSED, 1),
        (OPEN + PING + REUSED, 0),
    ],
)
def test_what_is_lost_is_seen_and_nothing_else(script, n):
    assert (n_lost(script), n_seen(script)) == (n, n)


TLS = '+0 > P. "\\x16\\x03\\x03\\x00\\x05hello"\n+0.01 < P. "\\x16\\x03\\x03\\x00\\x05hello"\n'
TURN = '"\\x17\\x03\\x03\\x00\\x30' + "d" * 48 + '"'
ASKED = OPEN + TLS + f"+0.01 > P. {TURN}\n+0.01 < P. {TURN}\n+1 > P. {TURN}\n"


@pytest.mark.parametrize(("wait", "n"), [("+0.001 > F.\n+0.02 < F.", 0), ("+3 > F.\n+0.02 < F.", 1)])
@pytest.mark.parametrize("after", ["", REUSED])
def test_last_bytes_inside_tls_say_goodbye_to_both(wait, n, after):
    assert (n_lost(f"{ASKED}{wait}\n{after}"), n_seen(f"{ASKED}{wait}\n{after}")) == (n, n)


@pytest.mark.parametrize(("changes", "n"), [({}, 1), ({"later_ns": 20_000_000}, 2), ({"isn": 1}, 2)])
def test_a_failure_that_two_interfaces_saw_is_told_once(changes, n):
    own = [_moved(s, isn=1 << 20) for s in from_script(OPEN + f"+0 > P. {GET}\n+1 < R.")]
    other = [_moved(s, server=(0, 0xFFFF0A4D0202, 8000), **({"later_ns": 20_000} | changes)) for s in own]
    detector = Detector(NO_INPUTS)
    seen = detector.update(make_batch(sorted([*own, *other], key=lambda s: s.ts_ns)))
    assert len(seen) + len(detector.look()) == n


def _moved(segment, *, isn=0, later_ns=0, server=SERVER):
    """Return a segment with other numbers, at a later time, as another interface sees it."""
    src, dst = (server if end == SERVER else end for end in (segment.src, segment.dst))
    ack = segment.ack + isn if segment.ack >= 0 else -1
    return replace(segment, ts_ns=segment.ts_ns + later_ns, src=src, dst=dst, seq=segment.seq + isn, ack=ack)
