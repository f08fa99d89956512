"""Rarer link headers, beside what https://www.tcpdump.org/linktypes.html says of them."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.base.codes import PacketDirection
from pcapdiag.engine.capture.kernels.decode_link import LINK_ETHERNET, LINK_PPP, LINK_RAW
from pcapdiag.engine.capture.link_headers import MAX_HEADER_BYTES, NOT_IP, Inner, find_inner

ENC, PFLOG, PPP_PPPD, ERF, PPP_WITH_DIRECTION, IPNET, NFLOG, PKTAP = 109, 117, 166, 197, 204, 226, 239, 258
KNOWN = (ENC, PFLOG, PPP_PPPD, ERF, PPP_WITH_DIRECTION, IPNET, NFLOG, PKTAP)
IN, OUT = PacketDirection.INBOUND, PacketDirection.OUTBOUND


def pktap(dlt, flags, length=108):
    return struct.pack("<III24sI", length, 1, dlt, b"en0", flags) + bytes(length)


def nflog(*attributes, order="<"):
    body = b"".join(
        struct.pack(f"{order}HH", 4 + len(data), kind) + data + bytes(-len(data) % 4) for kind, data in attributes
    )
    return b"\x02\0\0\0" + body


def erf(kind, *extensions):
    return bytes(8) + bytes([kind]) + bytes(7) + b"".join(bytes([more]) + bytes(7) for more in extensions)


@pytest.mark.parametrize(
    ("link_type", "head", "inner"),
    [
        (ENC, bytes(12), Inner(LINK_RAW, 12)),
        (PFLOG, bytes([61]) + bytes(63), Inner(LINK_RAW, 64)),
        (PFLOG, bytes([64]) + bytes(63), Inner(LINK_RAW, 64)),
        (PPP_PPPD, b"\0\3", Inner(LINK_PPP, 2, IN)),
        (PPP_PPPD, b"\1\3", Inner(LINK_PPP, 2, OUT)),
        (PPP_WITH_DIRECTION, b"\0", Inner(LINK_PPP, 1, IN)),
        (PPP_WITH_DIRECTION, b"\1", Inner(LINK_PPP, 1, OUT)),
        (IPNET, bytes(24), Inner(LINK_RAW, 24)),
        (PKTAP, pktap(1, 1), Inner(1, 108, IN)),
        (PKTAP, pktap(1, 2), Inner(1, 108, OUT)),
        (PKTAP, pktap(12, 0), Inner(12, 108)),
        (PKTAP, pktap(1 << 20, 1), Inner(NOT_IP, 108, IN)),
        (NFLOG, nflog((1, b"abcd"), (10, b"eth0\0"), (9, b"E")), Inner(LINK_RAW, 4 + 8 + 12 + 4)),
        (NFLOG, nflog((1, b"abcd"), (9, b"E"), order=">"), Inner(LINK_RAW, 4 + 8 + 4)),
        (NFLOG, nflog((1, b"abcd")), Inner(NOT_IP)),
        (ERF, erf(2), Inner(LINK_ETHERNET, 18)),
        (ERF, erf(0x82, 0x80, 0x00), Inner(LINK_ETHERNET, 34)),
        (ERF, erf(1), Inner(NOT_IP)),
    ],
)
def test_what_a_rare_header_holds(link_type, head, inner):
    assert find_inner(link_type, head) == inner


@pytest.mark.parametrize("link_type", [0, 1, 105, 119, 127, 276])
def test_what_kernels_read_or_no_proxy_has_is_not_known_here(link_type):
    assert find_inner(link_type, bytes(MAX_HEADER_BYTES)) is None


@given(link_type=st.sampled_from(KNOWN), head=st.binary(max_size=MAX_HEADER_BYTES))
def test_any_bytes_are_a_header_or_too_short(link_type, head):
    try:
        inner = find_inner(link_type, head)
    except (IndexError, struct.error):
        return
    assert inner.skip >= 0
    assert 0 <= inner.link_type < 1 << 16 or inner.link_type == NOT_IP


@pytest.mark.parametrize("order", ["<", ">"])
def test_attributes_of_no_length_do_not_hang(order):
    assert find_inner(NFLOG, b"\0" * 4 + struct.pack(f"{order}HH", 0, 1) * 100) == Inner(NOT_IP)
