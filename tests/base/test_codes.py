"""The numbers of the codes are stored: none is shared, none changes, and each fits its column."""

import enum

import numpy as np
import pytest

from pcapdiag.base import codes
from pcapdiag.base.columns import CONNECTIONS, EXCHANGES, FRAMES, KEY_SEGMENTS, STREAM_EVENTS

ENUMS = [v for v in vars(codes).values() if isinstance(v, type) and issubclass(v, enum.Enum) and v.__members__]
IN_COLUMNS = [
    (codes.FrameKind, FRAMES, "kind"),
    (codes.UndecodedReason, FRAMES, "undecoded_reason"),
    (codes.PacketDirection, FRAMES, "packet_direction"),
    (codes.TcpFlag, FRAMES, "flags"),
    (codes.StreamEventKind, STREAM_EVENTS, "kind"),
    (codes.Fate, STREAM_EVENTS, "fate"),
    (codes.Direction, STREAM_EVENTS, "dir"),
    (codes.ConnEnd, CONNECTIONS, "end"),
    (codes.ConnState, CONNECTIONS, "conn_state"),
    (codes.ClosingKind, CONNECTIONS, "closing_kind"),
    (codes.Protocol, CONNECTIONS, "protocol"),
    (codes.Method, EXCHANGES, "method"),
    (codes.Framing, EXCHANGES, "request_framing"),
    (codes.Outcome, EXCHANGES, "outcome"),
    (codes.ExchangeFlag, EXCHANGES, "flags"),
    (codes.Key, KEY_SEGMENTS, "key"),
]
FIRST = {
    "Fate": "NEW RETRANSMISSION SPURIOUS_RETRANSMISSION OUT_OF_ORDER OVERLAP KEEP_ALIVE KEEP_ALIVE_ACK DUP_ACK "
    "ZERO_WINDOW_PROBE PURE_ACK OUTSIDE_WINDOW AFTER_RST DUPLICATE_CAPTURE RESET",
    "Outcome": "ANSWERED UNANSWERED TRUNCATED RESPONSE_ONLY PENDING",
    "ConnEnd": "CAPTURE_END CLOSED PORT_REUSE EVICTED ABANDONED",
    "Protocol": "UNKNOWN HTTP1 TLS FASTCGI UWSGI MEMCACHED HTTP2 UPGRADED",
    "FrameKind": "UNDECODED TCP UDP ICMP OTHER_IP FRAGMENT NON_IP",
    "Leg": "UNKNOWN UPSTREAM CLIENT",
}
"""Names in the order of their numbers, from 0: stored files depend on them. Append, never change."""


@pytest.mark.parametrize("code", ENUMS, ids=lambda c: c.__name__)
def test_no_two_names_share_a_number(code):
    assert len(code) == len(code.__members__)


@pytest.mark.parametrize("code", ENUMS, ids=lambda c: c.__name__)
def test_every_code_says_what_it_is(code):
    assert code.__doc__
    assert code.__doc__.endswith(".")


@pytest.mark.parametrize(("code", "schema", "name"), IN_COLUMNS, ids=lambda v: getattr(v, "__name__", None))
def test_every_number_fits_its_column(code, schema, name):
    limits = np.iinfo(schema.dtype[name])
    every = sum(int(m) for m in code) if issubclass(code, enum.IntFlag) else max(code)
    assert limits.min <= min(code)
    assert every <= limits.max


@pytest.mark.parametrize("name", FIRST)
def test_stored_numbers_stay_what_they_are(name):
    code = getattr(codes, name)
    assert [code(i).name for i in range(len(FIRST[name].split()))] == FIRST[name].split()


def test_tcp_flags_are_the_bits_of_the_header():
    names = "FIN SYN RST PSH ACK URG ECE CWR"
    assert [codes.TcpFlag(1 << i).name for i in range(8)] == names.split()


def test_no_direction_no_method_and_no_framing_are_minus_one():
    assert codes.Direction(-1) == codes.Direction.NONE
    assert codes.Method(-1) == codes.Method.NONE
    assert codes.Framing(-1) == codes.Framing.UNKNOWN


def test_keys_fit_the_bits_that_tell_which_are_set():
    from pcapdiag.engine.http.kernels.http_state import CONN, N_KEYS

    assert sorted(codes.Key) == list(range(N_KEYS))
    assert np.iinfo(CONN["keys_set"]).max >= (1 << N_KEYS) - 1
