"""Which bytes are TLS, which records are application data, and which protocol first bytes belong to."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pcapdiag.base.codes import Protocol
from pcapdiag.engine.http.kernels.http_detect import detect_protocol, is_goodbye, looks_like_tls
from tests.engine.http.kernels import plain_http_message as plain

BEGINNINGS = st.sampled_from(
    [
        b"",
        b"\x16\x03\x01",
        b"\x17\x03\x03\x00\x20",
        b"\x19\x03\x03",
        b"\x01\x01\0\1\0\x08\0\0",
        b"\0\x20\0\0\4\0A",
        b"70:CONTENT_LENGTH\0",
    ]
)
DATA = st.builds(lambda begin, rest: begin + rest, BEGINNINGS, st.binary(max_size=12))


def array(data):
    """Return bytes behind others, with bytes behind them that would make every beginning complete."""
    return np.frombuffer(b"\x16" + data + b"\x03\x03\x00\x00\x08\x00\x00\x08", dtype=np.uint8).copy()


@given(DATA, st.integers(0, 20))
@example(b"PRI *", 0)
@example(b"PRI ", 9)
@example(b"\x00\x20\x00\x00\x04\x00A", 40)
@example(b"\x00\x20\x00\x00\x20\x00A", 40)
@example(b"\x00\xff\xff\x00\x00\x01Z", 40)
def test_the_protocol_of_first_bytes_is_the_twins(data, more):
    length = len(data) + more
    assert detect_protocol(array(data), 1, len(data), length) == plain.detect_protocol(data, length)
    assert bool(looks_like_tls(array(data), 1, len(data))) == plain.looks_like_tls(data)


@pytest.mark.parametrize("kind", [20, 21, 22, 23, 24])
@pytest.mark.parametrize("minor", [0, 1, 2, 3, 4])
def test_every_record_type_and_version_begins_tls(kind, minor):
    assert looks_like_tls(array(bytes([kind, 3, minor])), 1, 3)
    assert not looks_like_tls(array(bytes([kind, 3, minor])), 1, 2)


@pytest.mark.parametrize("data", [b"\x13\x03\x03", b"\x19\x03\x03", b"\x16\x02\x00", b"\x16\x03\x05", b"GET"])
def test_other_bytes_do_not(data):
    assert not looks_like_tls(array(data), 1, 3)
    assert detect_protocol(array(data), 1, 3, 9) == Protocol.UNKNOWN
    assert detect_protocol(array(data), 1, 3, 3) == Protocol.OPAQUE


@pytest.mark.parametrize("data", [b"\x01\x01\x00\x01\x00\x08\x00", b"\x00\x20\x00\x00\x04", b"PRI "])
def test_a_beginning_that_is_too_short_is_not_guessed(data):
    assert detect_protocol(array(data), 1, len(data), 100) == Protocol.UNKNOWN


GOODBYES = (
    b"\x01\0\0\0\x01",
    b"X\0\0\0\x04",
    b"\xe0\0",
    b"0\x05\x02\x01\x07B\0",
    b"QUIT\r\n",
    b"quit\n",
    b"a1 LOGOUT\r\n",
    b"*1\r\n$4\r\nQUIT\r\n",
)


@pytest.mark.parametrize("data", GOODBYES)
def test_what_says_goodbye_in_its_protocol_is_known(data):
    assert is_goodbye(array(data), 1, len(data), len(data))


@pytest.mark.parametrize("data", GOODBYES)
def test_a_goodbye_that_is_not_whole_or_not_alone_is_none(data):
    assert not is_goodbye(array(data), 1, len(data) - 1, len(data))
    assert not is_goodbye(array(data + b"x"), 1, len(data) + 1, len(data) + 1)


@given(st.binary(max_size=70) | st.sampled_from(GOODBYES), st.integers(0, 3))
def test_a_goodbye_is_the_twins(data, more):
    length = len(data) + more
    assert is_goodbye(array(data), 1, len(data), length) == plain.is_goodbye(data, length)
