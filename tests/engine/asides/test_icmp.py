"""ICMP errors read from the bytes that were kept: what they quote, what they mean, and no byte that raises."""

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.base.units import format_endpoint
from pcapdiag.engine.asides.collect import Aside, AsideKind
from pcapdiag.engine.asides.icmp import IcmpKind, read_icmp_errors
from tests.icmp_messages import icmp_message, packet_of
from tests.scenario import Form, parse

FORMS = {4: Form(), 6: Form(orig="2001:db8::100", resp="2001:db8::1")}
(SYN,) = parse("+0 > S")
ROUTER = (0, 0xFFFF0A090001)


def aside(data, version=4, kind=AsideKind.ICMP):
    return Aside(
        kind=kind,
        capture_idx=0,
        frame=7,
        ts_ns=99,
        src=(*ROUTER, -1),
        dst=(0, 0, -1),
        seq=-1,
        ack=-1,
        ttl=61,
        ip_proto=1 if version == 4 else 58,
        data=data,
        length=0,
    )


def error_of(data, version=4):
    found = list(read_icmp_errors([aside(data, version)]))
    assert len(found) <= 1
    return found[0] if found else None


def about_syn(version, its_type, code, mtu=0, n_bytes=None):
    quoted = packet_of(SYN, FORMS[version])
    return icmp_message(version, its_type, code, quoted[:n_bytes], mtu)


@pytest.mark.parametrize("version", [4, 6])
def test_an_error_names_the_segment_that_it_quotes(version):
    form = FORMS[version]
    error = error_of(about_syn(version, 3 if version == 4 else 1, 1), version)
    ends = format_endpoint(*error.src), format_endpoint(*error.dst)
    assert ends == (format_endpoint(*error.src[:2], form.orig_port), format_endpoint(*error.dst[:2], form.resp_port))
    assert (format_endpoint(*error.src[:2], -1), format_endpoint(*error.dst[:2], -1)) == (form.orig, form.resp)
    assert (error.seq, error.frame, error.ts_ns, error.sender, error.ttl) == (form.orig_isn, 7, 99, ROUTER, 61)


@pytest.mark.parametrize(
    ("version", "its_type", "code", "kind", "errno"),
    [
        (4, 3, 0, IcmpKind.NETWORK, 101),
        (4, 3, 1, IcmpKind.HOST, 113),
        (4, 3, 3, IcmpKind.PORT, 111),
        (4, 3, 10, IcmpKind.PROHIBITED, 113),
        (4, 3, 13, IcmpKind.PROHIBITED, 113),
        (4, 11, 0, IcmpKind.EXPIRED, 113),
        (4, 12, 0, IcmpKind.OTHER, 71),
        (6, 1, 0, IcmpKind.NETWORK, 101),
        (6, 1, 1, IcmpKind.PROHIBITED, 13),
        (6, 1, 3, IcmpKind.HOST, 113),
        (6, 1, 4, IcmpKind.PORT, 111),
        (6, 3, 0, IcmpKind.EXPIRED, 113),
        (6, 4, 1, IcmpKind.OTHER, 71),
    ],
)
def test_type_and_code_say_what_happened(version, its_type, code, kind, errno):
    error = error_of(about_syn(version, its_type, code), version)
    assert (error.kind, error.errno, error.mtu) == (kind, errno, -1)


@pytest.mark.parametrize(
    ("version", "mtu", "expected"), [(4, 1400, 1400), (4, 0, -1), (4, 67, -1), (6, 1380, 1380), (6, 1000, -1)]
)
def test_too_big_names_the_mtu_if_it_is_one(version, mtu, expected):
    its_type, code = (3, 4) if version == 4 else (2, 0)
    error = error_of(about_syn(version, its_type, code, mtu), version)
    assert (error.kind, error.mtu) == (IcmpKind.TOO_BIG, expected)


@pytest.mark.parametrize("version", [4, 6])
def test_a_quotation_that_ends_within_eight_bytes_of_tcp_tells_less(version):
    its_type = 3 if version == 4 else 1
    header = 20 if version == 4 else 40
    assert error_of(about_syn(version, its_type, 1, n_bytes=header + 8), version).seq == FORMS[version].orig_isn
    form = FORMS[version]
    for n_bytes, src_port, dst_port in ((7, True, True), (4, True, True), (3, True, False), (1, False, False)):
        error = error_of(about_syn(version, its_type, 1, n_bytes=header + n_bytes), version)
        assert (error.src[2], error.dst[2], error.seq) == (
            form.orig_port if src_port else -1,
            form.resp_port if dst_port else -1,
            -1,
        )
    assert error_of(about_syn(version, its_type, 1, n_bytes=header - 1), version) is None


def test_what_is_no_error_about_tcp_is_passed_over():
    packet = packet_of(SYN, Form())
    udp = packet[:9] + b"\x11" + packet[10:]
    later_fragment = packet[:6] + struct.pack(">H", 100) + packet[8:]
    assert error_of(icmp_message(4, 3, 3, udp)) is None
    assert error_of(icmp_message(4, 3, 3, later_fragment)) is None
    assert error_of(icmp_message(4, 8, 0, packet)) is None  # an echo
    assert error_of(icmp_message(4, 3, 99, packet)) is None  # no code of today
    assert error_of(icmp_message(4, 3, 3, packet_of(SYN, FORMS[6]))) is None  # the other version's packet
    assert error_of(icmp_message(6, 1, 4, packet), 6) is None
    assert list(read_icmp_errors([replace(aside(icmp_message(4, 3, 3, packet)), kind=AsideKind.TLS)])) == []
    assert list(read_icmp_errors([replace(aside(icmp_message(4, 3, 3, packet)), ip_proto=6)])) == []


@given(
    version=st.sampled_from([4, 6]),
    head=st.tuples(st.sampled_from([1, 2, 3, 4, 11, 12]), st.integers(0, 255)),
    body=st.binary(max_size=200),
    inner=st.sampled_from([b"", b"\x45", b"\x60", b"\x45\0\0\x28\0\0\0\0\x40\x06", b"\x45\0\0\x28\0\0\0\0\x40\x01"]),
)
def test_no_bytes_raise(version, head, body, inner):
    error_of(struct.pack(">BBHI", *head, 0, 0) + inner + body, version)


@pytest.mark.parametrize("version", [4, 6])
def test_a_message_may_be_cut_anywhere(version):
    data = about_syn(version, 3 if version == 4 else 1, 3)
    for end in range(len(data) + 1):
        error_of(data[:end], version)


def test_messages_within_messages_end_somewhere():
    data = packet_of(SYN, Form())
    for _ in range(60):
        message = icmp_message(4, 3, 1, data)
        header = struct.pack(">BBHHHBBHII", 0x45, 0, 20 + len(message), 0, 0, 64, 1, 0, 1, 2)
        data = header + message
    assert error_of(icmp_message(4, 3, 1, data)) is None
