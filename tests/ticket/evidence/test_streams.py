"""Secrets stay behind, however the stream that carries them is cut, repeated, torn or reordered."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.scenario import ORIG, Segment
from tests.ticket.evidence.scenes import (
    BODY,
    REPLY,
    REQUEST,
    RESPONSE,
    SECRETS,
    evidence,
    frames_of,
    in_time,
    race,
    write,
)

pytestmark = pytest.mark.compiled_only
LENGTH = max(len(REQUEST), len(RESPONSE))


def leaks(data):
    """Return the secrets of which six bytes in a row are in `data`."""
    return [s for s in SECRETS if any(s[i : i + 6].encode() in data for i in range(len(s) - 5))]


def test_no_secret_is_in_the_evidence_wherever_one_cut_falls(tmp_path):
    connections = [race([cut], conn=cut, start_ns=cut * 1_000_003) for cut in range(LENGTH)]
    path = write(tmp_path / "proxy.pcap", in_time(*connections))
    data, summary = evidence(path)
    assert summary.codes == ("PD101",)
    assert summary.connections == LENGTH
    assert leaks(data) == []
    assert data.count(b"POST /orders?id=*&token=") > LENGTH


def test_what_is_not_secret_is_still_there(tmp_path):
    path = write(tmp_path / "proxy.pcap", race([60, 61, 200]))
    evidence(path, write_to=tmp_path / "e.pcapng")
    shown = b"".join(data[54:] for _, _, data in frames_of(tmp_path / "e.pcapng"))
    for part in (b"POST /orders?id=*&token=", b"Host: shop.example.test", b"Content-Length: 8", b"HTTP/1.1 200 OK"):
        assert part in shown


@settings(max_examples=25)
@given(
    st.lists(st.integers(1, LENGTH), max_size=12),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=6),
    st.lists(st.integers(3, 60), max_size=3),
    st.lists(st.integers(3, 60), max_size=4),
)
def test_no_secret_is_in_the_evidence_of_a_torn_stream(tmp_path, cuts, swaps, losses, repeats):
    """Segments out of order, missing from the capture, and sent twice."""
    segments = race(cuts)
    for a, b in swaps:
        if max(a, b) < len(segments):
            first, second = segments[a], segments[b]
            segments[a], segments[b] = (
                replace(second, ts_ns=first.ts_ns),
                replace(first, ts_ns=second.ts_ns),
            )
    segments += [replace(segments[n], ts_ns=segments[n].ts_ns + 500) for n in repeats if n < len(segments)]
    segments = [s for n, s in enumerate(segments) if n not in losses]
    path = write(tmp_path / "proxy.pcap", in_time(segments))
    every = {f"proxy.pcap:{n}" for n in range(1, len(segments) + 1)}
    data, summary = evidence(path, frames=sorted(every))
    assert len(summary.frames) == len(segments)
    assert leaks(data) == []


def test_a_repetition_with_other_bytes_shows_the_first_ones(tmp_path):
    segments = race()
    request = next(s for s in segments if s.payload)
    other = REQUEST.replace(b"Content-Length", b"Cookie: Length")[: len(REQUEST)]
    segments.append(replace(request, ts_ns=request.ts_ns + 1, payload=other))
    data, _ = evidence(write(tmp_path / "proxy.pcap", in_time(segments)))
    assert b"Cookie: Length" not in data
    assert leaks(data) == []


def test_a_connection_that_was_under_way_shows_no_byte_before_its_first_whole_head(tmp_path):
    rest = [s for s in race([30, 100]) if not s.flags & 0x02][2:]
    data, _ = evidence(write(tmp_path / "proxy.pcap", rest), frames=[str(n) for n in range(1, len(rest) + 1)])
    assert leaks(data) == []


def test_a_snap_length_inside_a_head_masks_the_line_it_cuts(tmp_path):
    for snaplen in range(60, 54 + LENGTH, 7):
        data, _ = evidence(write(tmp_path / "proxy.pcap", race(), snaplen=snaplen))
        assert leaks(data) == []


@pytest.mark.parametrize("keep_bodies", [False, True])
def test_bodies_are_cut_off_unless_they_are_asked_for(tmp_path, keep_bodies):
    path = write(tmp_path / "proxy.pcap", race([len(REQUEST) - 4]))
    evidence(path, write_to=tmp_path / "e.pcapng", keep_bodies=keep_bodies)
    frames = [(data, wire) for (_, _, data), wire in zip(frames_of(tmp_path / "e.pcapng"), lengths(path), strict=True)]
    shown = b"".join(data[54:] for data, _ in frames)
    assert (BODY.encode() in shown, REPLY.encode() in shown) == (keep_bodies, keep_bodies)
    assert all(len(data) == wire for data, wire in frames) == keep_bodies
    assert b"a5ecret0" not in shown


def lengths(path):
    return [len(data) for _, _, data in frames_of(path)]


def test_nothing_of_another_protocol_is_kept(tmp_path):
    request, response = b"\x01\x01\x00\x01\x00\x08\x00\x00" + REQUEST, b"\x01\x06\x00\x01\x00\x08\x00\x00" + RESPONSE
    path = write(tmp_path / "proxy.pcap", race(request=request, response=response), resp_port=9000)
    data, _ = evidence(path, frames=[str(n) for n in range(1, 11)], keep_bodies=True)
    assert leaks(data) == []
    assert b"orders" not in data


def test_data_in_a_syn_is_not_kept(tmp_path):
    segments = race()
    segments[0] = replace(segments[0], payload=b"GET /?x=a5ecret0 HTTP/1.1\r\n\r\n")
    data, _ = evidence(write(tmp_path / "proxy.pcap", segments), frames=["1"])
    assert leaks(data) == []


def test_pipelined_heads_are_kept_and_the_bodies_between_them_filled(tmp_path):
    path = write(tmp_path / "proxy.pcap", race(request=REQUEST + REQUEST, response=RESPONSE + RESPONSE))
    evidence(path, write_to=tmp_path / "e.pcapng")
    shown = [data[54:] for _, _, data in frames_of(tmp_path / "e.pcapng")]
    pipelined = [data for data in shown if data.count(b"HTTP/1.1 200 OK") == 2]
    assert len(pipelined) == 1
    assert b"\r\n\r\n" + b"*" * len(REPLY) + b"HTTP/1.1" in pipelined[0]
    assert leaks(b"".join(shown)) == []


def test_interim_responses_are_kept_with_the_final_one(tmp_path):
    link = b"</a5ecret0.css>"
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: " + link + b"\r\n\r\n"
    path = write(tmp_path / "proxy.pcap", race(response=interim + RESPONSE))
    data, _ = evidence(path)
    assert interim.replace(link, b"*" * len(link)) + b"HTTP/1.1 200 OK\r\n" in data
    assert leaks(data) == []


def test_of_tls_only_record_headers_are_kept(tmp_path):
    def record(kind, body):
        return bytes([kind, 3, 3]) + len(body).to_bytes(2, "big") + body

    hello = record(22, b"\x01\x00\x00\x20" + b"shop.example.test" + b"\0" * 15)
    request = record(23, REQUEST)
    segments = race(request=hello + record(20, b"\1") + request, response=hello + record(23, RESPONSE))
    path = write(tmp_path / "proxy.pcap", segments, resp_port=443)
    evidence(path, write_to=tmp_path / "e.pcapng", frames=["4"])
    shown = [data[54:] for _, _, data in frames_of(tmp_path / "e.pcapng")]
    assert request[:5] in b"".join(shown)
    assert b"shop.example.test" not in b"".join(shown)
    assert leaks(b"".join(shown)) == []


def test_a_frame_of_no_connection_shows_its_headers_alone(tmp_path):
    stray = Segment(1, 9, ORIG, 0x18, 1, 1, REQUEST)
    data, summary = evidence(write(tmp_path / "proxy.pcap", in_time(race(), [stray])), frames=["2"])
    assert leaks(data) == []
    assert any(ref.original_frame == 2 for ref in summary.frames)
