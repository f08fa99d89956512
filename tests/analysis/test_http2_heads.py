"""Which HTTP/2 requests get their names: those whose header blocks can be read, alone or with all before them."""

import hpack
import pytest

import pcapdiag
from pcapdiag.analysis import http2_heads
from pcapdiag.base.codes import Method
from tests.http2_frames import (
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    HAS_PRIORITY,
    PADDED,
    answer,
    capture,
    data,
    frame,
    headers,
)
from tests.scenario import ORIG, RESP


def fields(path):
    return [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "h.test")]


def names_of(tmp_path, *said):
    path = tmp_path / "h2.pcap"
    path.write_bytes(capture(*said, (100, RESP, "FIN")))
    losses = pcapdiag.analyze(path).analysis.losses
    return [(loss.stream, loss.method, loss.target) for loss in losses]


def call(stream, block):
    """Return a request of which the last byte is that of its head."""
    return headers(stream, block, END_HEADERS | END_STREAM)


def test_a_lost_request_is_named_by_its_block(tmp_path):
    assert names_of(tmp_path, (1, ORIG, call(1, hpack.Encoder().encode(fields("/a"))))) == [(1, Method.POST, "/a")]


def test_one_that_rests_on_those_before_it_is_read_with_them(tmp_path):
    encoder = hpack.Encoder()
    said = []
    for stream in range(1, 40, 2):
        said += [(1, ORIG, call(stream, encoder.encode(fields("/same")))), (1, RESP, answer(stream))]
    last = call(41, encoder.encode(fields("/same")))
    assert names_of(tmp_path, *said, (1, ORIG, last)) == [(41, Method.POST, "/same")]


@pytest.mark.parametrize("size", [1, 7, 20])
def test_a_block_in_several_segments_is_read(tmp_path, size):
    block = call(1, hpack.Encoder().encode(fields("/in/pieces")))
    pieces = [(1, ORIG, block[i : i + size]) for i in range(0, len(block), size)]
    assert names_of(tmp_path, *pieces) == [(1, Method.POST, "/in/pieces")]


def test_a_block_behind_a_priority_is_read(tmp_path):
    block = hpack.Encoder().encode(fields("/p"))
    request = headers(1, bytes(5) + block, END_HEADERS | END_STREAM | HAS_PRIORITY)
    assert names_of(tmp_path, (1, ORIG, request)) == [(1, Method.POST, "/p")]


def unread(encoder):
    """Return requests whose blocks are not kept, with what they are."""
    first = encoder.encode(fields("/same"))
    padded = headers(1, b"\2" + first + b"\0\0", END_HEADERS | END_STREAM | PADDED)
    parted = headers(1, first[:5], END_STREAM) + frame(CONTINUATION, 1, first[5:], END_HEADERS)
    return {"padded": padded, "parted": parted}


@pytest.mark.parametrize("kind", ["padded", "parted"])
def test_behind_a_block_that_was_not_kept_no_name_is_guessed(tmp_path, kind):
    encoder = hpack.Encoder()
    first = unread(encoder)[kind]
    said = [(1, ORIG, first), (1, RESP, answer(1)), (1, ORIG, call(3, encoder.encode(fields("/same"))))]
    assert names_of(tmp_path, *said) == [(3, Method.NONE, "")]


def test_trailers_of_a_request_change_the_tables_too(tmp_path):
    encoder = hpack.Encoder()
    head, trailers = encoder.encode(fields("/a")), encoder.encode([("x-sum", "1")])
    said = [
        (1, ORIG, headers(1, head) + data(1) + headers(1, trailers, END_HEADERS | END_STREAM)),
        (1, RESP, answer(1)),
    ]
    assert names_of(tmp_path, *said, (1, ORIG, call(3, encoder.encode(fields("/b"))))) == [(3, Method.NONE, "")]


def test_what_is_read_is_bounded(tmp_path, monkeypatch):
    encoder = hpack.Encoder()
    said = []
    for stream in (1, 3, 5):
        said += [(1, ORIG, call(stream, encoder.encode(fields("/same")))), (1, RESP, answer(stream))]
    said.append((1, ORIG, call(7, encoder.encode(fields("/same")))))
    monkeypatch.setattr(http2_heads, "MOST_BLOCKS", 4)
    assert names_of(tmp_path, *said) == [(7, Method.POST, "/same")]
    monkeypatch.setattr(http2_heads, "MOST_BLOCKS", 3)
    assert names_of(tmp_path, *said) == [(7, Method.NONE, "")]
