"""One frame as it may leave: other addresses wherever there was one, checksums that agree, nothing left over.

`layers` walks the headers and repairs the checksums: what it does shows in the frames that come out here.
"""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.base.codes import FrameKind, PacketDirection
from pcapdiag.privacy.anonymize import KEY_BYTES, Anonymizer
from pcapdiag.ticket.evidence.rewrite import anonymous_link_type, rewrite_frame
from pcapdiag.ticket.evidence.spool import SpooledFrame
from tests.scenario import LINK_TYPES, ORIG, Form, Segment, build_frame, checksum

ALSO_TESTS = ("layers",)

PAYLOAD = b"GET /s3cr3t HTTP/1.1\r\n\r\n"
ADDRESSES = {4: ("10.9.0.100", "10.9.0.1"), 6: ("2001:db8::100", "2001:db8::1")}
forms = st.builds(
    lambda version, link: Form(*ADDRESSES[version], link=link),
    st.sampled_from([4, 6]),
    st.sampled_from(sorted(LINK_TYPES)),
)


@pytest.fixture(scope="module")
def anonymizer():
    return Anonymizer(bytes(range(KEY_BYTES)))


def spooled(form, payload=PAYLOAD, *, kind=FrameKind.TCP, padding=b""):
    data = build_frame(Segment(0, 0, ORIG, 0x18, 1, 1, payload), form)
    return SpooledFrame(
        *(0, 0, 0, 0, ORIG, 0, 1001),
        payload_at=len(data) - len(payload),
        payload_len=len(payload),
        payload_cap=len(payload),
        wire_len=len(data) + len(padding),
        kind=kind,
        direction=PacketDirection.UNKNOWN,
        data=data + padding,
    )


def packets_of(data, form):
    """Return (source, destination, TCP segment) and check both checksums."""
    at = len(build_frame(Segment(0, 0, ORIG, 0x18, 1, 1), form)) - 20 - (20 if "." in form.orig else 40)
    packet = data[at:]
    if "." in form.orig:
        assert checksum(packet[:20]) == 0
        source, destination, segment = packet[12:16], packet[16:20], packet[20:]
    else:
        source, destination, segment = packet[8:24], packet[24:40], packet[40:]
    assert checksum(source + destination + len(segment).to_bytes(4, "big") + b"\0\0\0\6" + segment) == 0
    return ipaddress.ip_address(source), ipaddress.ip_address(destination), segment


@given(form=forms)
def test_what_need_not_change_leaves_as_it_came(form):
    frame = spooled(form)
    assert rewrite_frame(frame, LINK_TYPES[form.link], PAYLOAD) == frame.data


@given(form=forms, fill=st.binary(min_size=len(PAYLOAD), max_size=len(PAYLOAD)))
def test_another_payload_has_checksums_that_agree_with_it(form, fill):
    data = rewrite_frame(spooled(form), LINK_TYPES[form.link], fill)
    source, destination, segment = packets_of(data, form)
    assert (str(source), str(destination), segment[20:]) == (form.orig, form.resp, fill)


@given(form=forms)
def test_addresses_are_others_and_of_the_old_ones_nothing_is_left(form, anonymizer):
    data = rewrite_frame(spooled(form), LINK_TYPES[form.link], PAYLOAD, anonymizer)
    source, destination, _ = packets_of(data, form)
    for old, new in ((form.orig, source), (form.resp, destination)):
        packed = ipaddress.ip_address(old).packed
        assert new.packed == anonymizer.packed(packed) != packed
        assert packed not in data
    for mac in (bytes.fromhex("0200000000aa"), bytes.fromhex("0200000000bb")):
        assert mac not in data


def test_a_payload_that_may_not_be_shown_is_cut_off_and_padding_is_blank():
    form = Form()
    frame = spooled(form, b"ab", padding=b"memory")
    assert len(rewrite_frame(frame, 1, b"")) == frame.payload_at
    assert rewrite_frame(frame, 1, b"xy").endswith(b"xy" + bytes(6))


def test_of_what_is_no_tcp_only_headers_leave():
    frame = spooled(Form(), kind=FrameKind.OTHER_IP)
    assert PAYLOAD not in rewrite_frame(frame, 1, b"")


@pytest.mark.parametrize(
    ("option", "is_kept"),
    [
        (b"\x02\x04\x05\xb4", True),  # MSS
        (b"\x1e\x08\x00\x00\x0a\x09\x00\x63", False),  # MPTCP's address
        (b"\xc8\x04\x0a\x09", False),  # a balancer's note of the client
        (b"\xc8\x09\x0a\x09", False),  # longer than its header
    ],
)
def test_options_of_tcp_that_may_name_machines_become_nothing(option, is_kept, anonymizer):
    frame = spooled(Form(), option + PAYLOAD)
    data = bytearray(frame.data)
    tcp = frame.payload_at - 20
    data[tcp + 12] = (20 + len(option)) // 4 << 4
    at = frame.payload_at + len(option)
    frame = frame._replace(data=bytes(data), payload_at=at, payload_len=len(PAYLOAD), payload_cap=len(PAYLOAD))
    left = rewrite_frame(frame, 1, PAYLOAD, anonymizer)[tcp + 20 : at]
    assert left == (option if is_kept else b"\1" * len(option))


def test_links_that_nobody_here_knows_leave_as_bare_packets():
    assert [anonymous_link_type(link) for link in (0, 1, 101, 113, 276)] == [0, 1, 101, 113, 276]
    assert anonymous_link_type(239) == 101  # NFLOG
