"""What leaves of an ICMP error: headers and numbers, no byte of the payload that it quotes, no old address."""

import ipaddress
from dataclasses import replace

import pytest

from pcapdiag.base.codes import FrameKind, PacketDirection
from pcapdiag.privacy.anonymize import KEY_BYTES, Anonymizer
from pcapdiag.ticket.evidence.rewrite import rewrite_frame
from pcapdiag.ticket.evidence.spool import SpooledFrame
from tests.icmp_messages import icmp_frame, icmp_message, packet_of
from tests.scenario import LINK_TYPES, ORIG, Form, Segment, checksum

SECRET = b"GET /s3cr3t HTTP/1.1\r\n\r\n"
FORMS = {4: Form(), 6: Form(orig="2001:db8::100", resp="2001:db8::1")}
TOO_BIG = {4: (3, 4), 6: (2, 0)}


def spooled(form, message, sender):
    data = icmp_frame(form, message, sender)
    return SpooledFrame(
        *(0, 0, 0, -1, 0, 0, -1),
        payload_at=-1,
        payload_len=0,
        payload_cap=0,
        wire_len=len(data),
        kind=FrameKind.ICMP,
        direction=PacketDirection.UNKNOWN,
        data=data,
    )


def quotation(version, payload=SECRET):
    return packet_of(Segment(0, 0, ORIG, 0x18, 1, 1, payload), FORMS[version])


def sender_of(version):
    return "10.9.0.254" if version == 4 else "2001:db8::fe"


def icmp_at(version, link):
    return {"ethernet": 14, "raw": 0, "vlan": 18}[link] + (20 if version == 4 else 40)


@pytest.fixture(scope="module")
def anonymizer():
    return Anonymizer(bytes(range(KEY_BYTES)))


@pytest.mark.parametrize("link", ["ethernet", "raw", "vlan"])
@pytest.mark.parametrize("version", [4, 6])
def test_the_quotation_ends_after_the_sequence_number(version, link):
    form = replace(FORMS[version], link=link)
    message = icmp_message(version, *TOO_BIG[version], quotation(version), 1400)
    data = rewrite_frame(spooled(form, message, sender_of(version)), LINK_TYPES[link], b"")
    assert len(data) == icmp_at(version, link) + 8 + (20 if version == 4 else 40) + 8
    assert data.endswith((form.orig_isn + 1).to_bytes(4, "big"))
    assert b"s3cr3t" not in data


@pytest.mark.parametrize("version", [4, 6])
def test_no_address_is_left_when_anonymous_and_checksums_agree(version, anonymizer):
    form = replace(FORMS[version], link="raw")
    message = icmp_message(version, *TOO_BIG[version], quotation(version), 1400)
    data = rewrite_frame(spooled(form, message, sender_of(version)), LINK_TYPES["raw"], b"", anonymizer)
    for address in (form.orig, form.resp, sender_of(version)):
        packed = ipaddress.ip_address(address).packed
        assert packed not in data
        assert anonymizer.packed(packed) in data
    if version == 4:
        assert checksum(data[:20]) == checksum(data[28:48]) == 0
        assert checksum(data[20:]) == 0
    else:
        wire = len(message).to_bytes(4, "big")
        assert checksum(data[8:40] + wire + b"\0\0\0\x3a" + data[40:]) == 0


def test_what_is_no_error_loses_all_of_it():
    form = replace(FORMS[4], link="raw")
    data = rewrite_frame(spooled(form, icmp_message(4, 8, 0, SECRET), "10.9.0.254"), LINK_TYPES["raw"], b"")
    assert len(data) == 20


@pytest.mark.parametrize("protocol", [17, 1, 50])
def test_of_other_protocols_the_ip_header_alone_is_left(protocol):
    form = replace(FORMS[4], link="raw")
    quoted = quotation(4)
    quoted = quoted[:9] + bytes([protocol]) + quoted[10:]
    data = rewrite_frame(spooled(form, icmp_message(4, 3, 1, quoted), "10.9.0.254"), LINK_TYPES["raw"], b"")
    assert len(data) == 20 + 8 + 20


@pytest.mark.parametrize("version", [4, 6])
def test_a_frame_may_be_cut_anywhere(version, anonymizer):
    form = replace(FORMS[version], link="raw")
    whole = spooled(form, icmp_message(version, *TOO_BIG[version], quotation(version), 1400), sender_of(version))
    for size in range(len(whole.data) + 1):
        cut = whole._replace(data=whole.data[:size])
        for names in (None, anonymizer):
            assert b"s3cr3t" not in rewrite_frame(cut, LINK_TYPES["raw"], b"", names)


@pytest.mark.parametrize("version", [4, 6])
def test_what_it_does_not_quote_is_no_quotation(version, anonymizer):
    form = replace(FORMS[version], link="raw")
    message = icmp_message(version, *TOO_BIG[version], b"\xff" * 20 + SECRET)
    data = rewrite_frame(spooled(form, message, sender_of(version)), LINK_TYPES["raw"], b"", anonymizer)
    assert len(data) == icmp_at(version, "raw") + 8
