"""The hub without a network: what it does to frames depends on seed and order alone."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.lab.hub import ACK, FIREWALL_TTL, PSH, RST, Hub, Path, Way, read_tcp, reset_for
from tests.scenario import Form, Segment, build_frame, checksum

PROXY, UPSTREAM = bytes.fromhex("0200000000aa"), bytes.fromhex("0200000000bb")
REQUEST = Segment(0, 0, 0, PSH | ACK, 1, 1, b"GET / HTTP/1.1\r\n\r\n")


def frame_of(segment):
    return build_frame(segment, Form())


@pytest.fixture
def hub():
    made = Hub(Path(), Path())
    files = [os.open(os.devnull, os.O_RDWR) for _ in range(2)]
    made.plug(files[0], PROXY, is_proxy=True)
    made.plug(files[1], UPSTREAM)
    yield made
    made.close()


@given(st.integers(), st.lists(st.floats(0, 10), min_size=1), st.floats(0, 1), st.floats(0, 1))
def test_the_same_seed_gives_the_same_path(seed, sent_s, loss, reorder):
    path = Path(jitter_s=0.02, loss=loss, reorder=reorder)
    one, other = Way(path, seed), Way(path, seed)
    assert [one.arrival_s(s) for s in sent_s] == [other.arrival_s(s) for s in sent_s]


@given(st.integers(), st.lists(st.floats(0, 1), min_size=1).map(sorted))
def test_jitter_delays_and_does_not_reorder(seed, sent_s):
    way = Way(Path(delay_s=0.08, jitter_s=0.05), seed)
    arrivals = [way.arrival_s(s) for s in sent_s]
    assert arrivals == sorted(arrivals)
    assert all(a - s > 0.0799 for a, s in zip(arrivals, sent_s, strict=True))


@given(st.integers())
def test_a_frame_that_is_overtaken_arrives_after_the_next(seed):
    way = Way(Path(reorder=0.3), seed)
    arrivals = [way.arrival_s(n * 0.001) for n in range(200)]
    assert arrivals != sorted(arrivals)


@given(st.integers())
def test_loss_is_the_share_that_was_asked_for(seed):
    way = Way(Path(loss=0.2), seed)
    n_lost = sum(way.arrival_s(n) is None for n in range(2000))
    assert 250 < n_lost < 550


def test_a_frame_is_held_for_the_port_of_its_address(hub):
    frame = frame_of(REQUEST)
    hub.take(hub.ports[PROXY], frame, 5.0)
    assert hub.held == [(5.08, UPSTREAM, frame)]
    assert hub.ports[PROXY].n_captured == 1


def test_a_frame_for_nobody_goes_nowhere(hub):
    hub.take(hub.ports[PROXY], bytes(6) + frame_of(REQUEST)[6:], 5.0)
    assert hub.held == []


def test_a_firewall_that_forgot_says_nothing(hub):
    hub.take(hub.ports[PROXY], frame_of(REQUEST), 5.0)
    hub.forget(with_reset=False)
    hub.take(hub.ports[PROXY], frame_of(REQUEST), 6.0)
    assert [due_s for due_s, _, _ in hub.held] == [5.08]


def test_a_firewall_that_forgot_resets_at_once_and_from_nearer(hub):
    hub.take(hub.ports[PROXY], frame_of(REQUEST), 5.0)
    hub.forget(with_reset=True)
    hub.take(hub.ports[PROXY], frame_of(REQUEST), 6.0)
    _, (due_s, mac, frame) = hub.held
    assert (due_s, mac) == (6.0, PROXY)
    reset, request = read_tcp(frame), read_tcp(frame_of(REQUEST))
    assert (reset.src, reset.sport, reset.dst, reset.dport) == (*request[2:4], *request[0:2])
    assert (reset.flags, reset.seq, reset.ttl) == (RST, request.ack, FIREWALL_TTL)


def test_a_new_connection_is_not_forgotten(hub):
    hub.take(hub.ports[PROXY], frame_of(REQUEST), 5.0)
    hub.forget(with_reset=False)
    hub.take(hub.ports[PROXY], build_frame(REQUEST, Form(orig_port=40001)), 6.0)
    assert [due_s for due_s, _, _ in hub.held] == [5.08, 6.08]


def test_a_reset_is_not_answered():
    assert reset_for(frame_of(Segment(0, 0, 0, RST | ACK, 1, 1))) is None


def test_the_reset_has_the_checksums_that_a_kernel_wants():
    frame = reset_for(frame_of(REQUEST))
    ip, tcp = frame[14:34], frame[34:]
    assert checksum(ip) == 0
    assert checksum(ip[12:20] + bytes([0, 6, 0, len(tcp)]) + tcp) == 0


def test_one_segment_is_lost_and_its_retransmission_is_not(hub):
    hub.lose_one(b"GET /")
    for at_s in (5.0, 6.0):
        hub.take(hub.ports[PROXY], frame_of(REQUEST), at_s)
    assert [due_s for due_s, _, _ in hub.held] == [6.08]
    assert hub.n_lost == 1


@given(st.binary(max_size=80), st.binary(max_size=60))
def test_whatever_says_that_it_is_tcp_is_read_or_refused(head, tail):
    data = bytearray(head.ljust(24, b"\0") + tail)
    data[12:14], data[23] = b"\x08\x00", 6
    tcp = read_tcp(bytes(data))
    assert tcp is None or len(data) >= 54
    assert reset_for(bytes(data)) is None or tcp.flags & ACK
