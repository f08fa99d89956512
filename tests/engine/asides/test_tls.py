"""Records, hellos and alerts, as far as they were captured; hostile bytes are read as nothing."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.engine.asides import tls
from pcapdiag.engine.asides.collect import Aside, AsideKind
from tests import hellos

END = (0, 1, 443)


def segments_of(stream, cuts, kept=2048):
    """Return the segments of a stream that is cut at these places."""
    places = [0, *sorted({c for c in cuts if 0 < c < len(stream)}), len(stream)]
    return [
        Aside(AsideKind.TLS, 0, n, n, END, END, (2**32 - 5 + a) % 2**32, 0, 64, 6, stream[a:b][:kept], b - a)
        for n, (a, b) in enumerate(pairwise(places))
        if b > a
    ]


def body_of(hello):
    return hello[9:]


def test_a_client_hello_says_versions_name_and_protocols():
    hello = hellos.client_hello(name="a.example", alpn=("h2", "http/1.1"), versions=(0x0A0A, 0x0303, 0x0304))
    read = tls.read_client_hello(body_of(hello))
    assert read == tls.Hello((0x0304, 0x0303), "a.example", ("h2", "http/1.1"), is_whole=True)


def test_a_hello_without_extensions_offers_its_own_version():
    assert tls.read_client_hello(body_of(hellos.client_hello(legacy=0x0301))).versions == (0x0301,)


@pytest.mark.parametrize("version", [0x0302, 0x0303, 0x0304])
def test_a_server_hello_says_what_it_chose(version):
    read = tls.read_server_hello(body_of(hellos.server_hello(version=version, alpn="h2")))
    assert (read.versions, read.alpn) == ((version,), ("h2",))


STREAM = (
    hellos.client_hello(name="a.example", padding=300)
    + hellos.CHANGE_CIPHER_SPEC
    + hellos.record(hellos.DATA, bytes(53))
    + hellos.alert(48)
)
RECORDS = [(22, len(hellos.client_hello(name="a.example", padding=300)) - 5), (20, 1), (23, 53), (21, 2)]


@given(cuts=st.lists(st.integers(1, len(STREAM)), max_size=8), twice=st.booleans(), order=st.randoms())
def test_records_do_not_depend_on_segments(cuts, twice, order):
    segments = segments_of(STREAM, cuts)
    if twice:
        segments += [replace(s, frame=s.frame + 100) for s in segments]
    order.shuffle(segments)
    flow = tls.read_flow(segments, 2**32 - 5)
    assert [(r.type, r.length) for r in flow.records] == RECORDS
    assert flow.is_known
    assert all(r.is_whole for r in flow.records)
    (number, body, is_whole), *_ = tls.messages(flow.records[0])
    assert (number, is_whole, tls.read_client_hello(body).server_name) == (1, True, "a.example")


@given(
    cuts=st.lists(st.integers(1, len(STREAM)), min_size=1, max_size=8), kept=st.integers(0, 60), drop=st.integers(0, 8)
)
def test_what_was_not_captured_is_never_invented(cuts, kept, drop):
    segments = segments_of(STREAM, cuts, kept)
    del segments[drop : drop + 1]
    flow = tls.read_flow(segments, 2**32 - 5)
    found = [(r.type, r.length) for r in flow.records]
    assert all(f in RECORDS for f in found)
    assert (
        found == RECORDS or not flow.is_known or len(segments) <= drop or sum(s.length for s in segments) < len(STREAM)
    )


def test_bytes_that_are_no_record_are_kept_as_they_are():
    flow = tls.read_flow(segments_of(b"HTTP/1.1 400 Bad Request\r\n\r\n", []), 2**32 - 5)
    assert (flow.records, flow.plain[:8]) == ((), b"HTTP/1.1")


@given(st.binary(max_size=400), st.booleans(), st.lists(st.integers(1, 400), max_size=5))
def test_hostile_bytes_are_read_without_an_error(data, is_record, cuts):
    stream = hellos.record(22, hellos.message(1, data)) if is_record else data
    flow = tls.read_flow(segments_of(stream, cuts), 2**32 - 5)
    for rec in flow.records:
        list(tls.messages(rec))
    for read in (tls.read_client_hello, tls.read_server_hello):
        hello = read(data)
        assert all(isinstance(v, int) for v in hello.versions)


@given(st.data())
def test_a_damaged_hello_is_read_without_an_error(data):
    hello = bytearray(body_of(hellos.client_hello(name="a.example", alpn=("h2",), versions=(0x0304,))))
    for at in data.draw(st.lists(st.integers(0, len(hello) - 1), max_size=6)):
        hello[at] = data.draw(st.integers(0, 255))
    tls.read_client_hello(bytes(hello[: data.draw(st.integers(0, len(hello)))]))


def test_versions_and_alerts_have_names():
    assert [tls.version_name(v) for v in (0x0301, 0x0304, 0x7F10, 0x0666)] == [
        "TLS 1.0",
        "TLS 1.3",
        "TLS 1.3 (a draft)",
        "version 0x0666",
    ]
    assert (tls.alert_name(70), tls.alert_name(99)) == ("protocol_version", "number 99")
