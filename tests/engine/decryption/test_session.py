"""Sessions of OpenSSL, opened with the keys that it wrote."""

import ssl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pcapdiag.base.codes import Direction
from pcapdiag.engine.decryption.key_log import KeyLog
from pcapdiag.engine.decryption.records import RecordCutter
from pcapdiag.engine.decryption.session import APPLICATION, TlsSession, Unread
from tests.engine.decryption.talks import NO_ENCRYPT_THEN_MAC, talk, talk_of_programs

TURNS = b"GET /a HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n" + bytes(40_000), b"GET /b HTTP/1.1\r\n\r\n"
TLS_12 = ssl.TLSVersion.TLSv1_2
OF_TLS_12 = (
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "AES256-GCM-SHA384",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "AES128-CCM",
    "AES256-CCM",
    "AES128-CCM8",
    "AES256-CCM8",
    "AES128-SHA",
    "AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "AES128-SHA256",
    "AES256-SHA256",
    "ECDHE-RSA-AES128-SHA256",
    "ECDHE-RSA-AES256-SHA384",
)


def keys_of(said, key_log=None):
    keys = KeyLog([said.client_random])
    keys.read_block(said.key_log if key_log is None else key_log)
    return keys.secrets_of(said.client_random)


def opened(said, secrets, *, flights=None):
    """Return the session, and what each direction said inside it."""
    session = TlsSession(said.client_random, secrets)
    cutters, at = {}, dict.fromkeys(Direction, 0)
    read = {Direction.ORIG: b"", Direction.RESP: b""}
    for direction, data in said.flights if flights is None else flights:
        cutter = cutters.setdefault(direction, RecordCutter(0))
        for record in cutter.take(at[direction], data, len(data)):
            content = session.open(direction, record)
            if content is not None and content.type == APPLICATION:
                read[direction] += content.data
        at[direction] += len(data)
    return session, read


def said_by(turns):
    return {Direction.ORIG: b"".join(turns[::2]), Direction.RESP: b"".join(turns[1::2])}


@pytest.mark.parametrize("cipher", OF_TLS_12)
@pytest.mark.parametrize("options", [0, NO_ENCRYPT_THEN_MAC], ids=["", "mac_inside"])
def test_every_suite_of_tls_12_is_opened(cipher, options):
    said = talk(*TURNS, version=TLS_12, ciphers=cipher, options=options)
    assert said.cipher == cipher
    session, read = opened(said, keys_of(said))
    assert read == said_by(TURNS)
    assert session.failures == {}


def test_tls_13_is_opened_and_says_what_was_chosen():
    said = talk(*TURNS, alpn=["http/1.1"])
    session, read = opened(said, keys_of(said))
    assert read == said_by(TURNS)
    assert session.failures == {}
    assert session.alpn == "http/1.1"


def test_in_tls_12_the_hello_says_what_was_chosen():
    said = talk(*TURNS, version=TLS_12, alpn=["h2"])
    assert opened(said, keys_of(said))[0].alpn == "h2"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_3, TLS_12])
def test_the_keys_of_another_session_are_no_key_of_this_one(version):
    said, other = talk(*TURNS, version=version), talk(*TURNS, version=version)
    session, read = opened(said, keys_of(said, other.key_log))
    assert read == {Direction.ORIG: b"", Direction.RESP: b""}
    assert set(session.failures.values()) == {Unread.NO_KEY}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_3, TLS_12])
def test_a_wrong_key_is_said_and_nothing_is_read(version):
    said = talk(*TURNS, version=version)
    wrong = {label: bytes(len(secret)) for label, secret in keys_of(said).items()}
    session, read = opened(said, wrong)
    assert read == {Direction.ORIG: b"", Direction.RESP: b""}
    assert session.failures == {Direction.ORIG: Unread.WRONG_KEY, Direction.RESP: Unread.WRONG_KEY}


def test_half_of_the_keys_of_tls_13_are_none():
    said = talk(*TURNS)
    half = {label: secret for label, secret in keys_of(said).items() if "HANDSHAKE" in label}
    assert set(opened(said, half)[0].failures.values()) == {Unread.NO_KEY}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_3, TLS_12])
@pytest.mark.parametrize("n_missing", [1, 5, 600])
def test_behind_a_gap_records_are_opened_by_the_number_that_they_have(version, n_missing):
    turns = [text for n in range(n_missing + 2) for text in (b"GET /%d" % n, b"200")][:-1]
    said = talk(*turns, version=version)
    sent = [n for n, (direction, _) in enumerate(said.flights) if direction is Direction.ORIG]
    gone = set(sent[-1 - n_missing : -1])
    session, cutter, at, read = TlsSession(said.client_random, keys_of(said)), RecordCutter(0), 0, b""
    answers = RecordCutter(0)
    n_answered = 0
    records = []
    for n, (direction, data) in enumerate(said.flights):
        if direction is Direction.RESP:
            records += [(direction, record) for record in answers.take(n_answered, data, len(data))]
            n_answered += len(data)
            continue
        if n not in gone:
            records += [(direction, record) for record in cutter.take(at, data, len(data))]
        at += len(data)
    for direction, record in [*records, *((Direction.ORIG, record) for record in cutter.finish())]:
        content = session.open(direction, record)
        if content is not None and content.type == APPLICATION and direction is Direction.ORIG:
            read += content.data
    last = b"GET /%d" % (n_missing + 1) if n_missing < 512 else b""
    assert read == b"GET /0" + last


def test_without_the_servers_hello_nothing_is_read():
    said = talk(*TURNS)
    sent = [flight for flight in said.flights if flight[0] is Direction.ORIG]
    session, read = opened(said, keys_of(said), flights=sent)
    assert read[Direction.ORIG] == b""
    assert session.failures == {Direction.ORIG: Unread.NO_HELLO}


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_tls_11_is_told_as_not_supported():
    said = talk(*TURNS, version=ssl.TLSVersion.TLSv1_1, ciphers="AES128-SHA")
    session, read = opened(said, keys_of(said))
    assert read == {Direction.ORIG: b"", Direction.RESP: b""}
    assert set(session.failures.values()) == {Unread.NOT_SUPPORTED}


def test_keys_that_openssl_updates_are_followed():
    """`openssl s_client` sends a key update for K, and asks the server for one."""
    lines = b"before\n", b"K\n", b"between\n", b"K\n", b"after\n"
    said = talk_of_programs(*lines)
    session, read = opened(said, keys_of(said))
    assert read[Direction.ORIG] == b"before\nbetween\nafter\n"
    assert session.failures == {}


@settings(deadline=None, max_examples=150)
@given(st.sampled_from([ssl.TLSVersion.TLSv1_3, TLS_12]), st.data())
def test_of_damaged_bytes_nothing_is_read_that_was_not_said(version, data):
    said = SAID[version]
    stream = bytearray(said.stream(Direction.ORIG))
    at = data.draw(st.integers(0, len(stream) - 1))
    stream[at] ^= data.draw(st.integers(1, 255))
    flights = []
    for direction, sent in said.flights:
        if direction is Direction.ORIG:
            flights.append((direction, bytes(stream[: len(sent)])))
            del stream[: len(sent)]
        else:
            flights.append((direction, sent))
    _, read = opened(said, keys_of(said), flights=flights)
    # Each record as it was or not at all: it may go on behind the damage.
    first, last = TURNS[0], TURNS[2]
    assert read[Direction.ORIG] in (b"", first, last, first + last)


@settings(deadline=None, max_examples=150)
@given(st.sampled_from([ssl.TLSVersion.TLSv1_3, TLS_12]), st.integers(0, 300), st.binary(min_size=1, max_size=40))
def test_a_hostile_server_hello_is_no_error(version, at, changed):
    said = SAID[version]
    stream = bytearray(said.stream(Direction.RESP))
    stream[at : at + len(changed)] = changed
    hello = next(data for direction, data in said.flights if direction is Direction.ORIG)
    flights = [(Direction.ORIG, hello), (Direction.RESP, bytes(stream))]
    opened(said, keys_of(said), flights=flights)


SAID = {version: talk(*TURNS, version=version) for version in (ssl.TLSVersion.TLSv1_3, TLS_12)}
