"""Unpacking piece by piece: bounded memory whatever the input claims, and what is good before the damage is kept."""

import bz2
import gzip
import io
import lzma
from itertools import islice

import lz4.frame
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.base.codecs import PIECE_BYTES, DamagedError, compression_of, unpack

PACK = {
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "lz4": lz4.frame.compress,
}
NAMES = st.sampled_from(sorted(PACK))
EACH = pytest.mark.parametrize("name", PACK)
TEXT = bytes(range(256)) * 400


class Trickle(io.BytesIO):
    """Returns fewer bytes than asked for, as a pipe does."""

    def read(self, n_bytes):
        return super().read(min(n_bytes, 7))


def unpacked(name, data, source=io.BytesIO):
    """Return all that could be unpacked, and the error that ended it."""
    pieces = []
    try:
        for piece in unpack(name, source(data)):
            assert 0 < len(piece) <= PIECE_BYTES
            pieces.append(piece)
    except (DamagedError, EOFError) as error:
        return b"".join(pieces), type(error)
    return b"".join(pieces), None


@given(NAMES, st.lists(st.binary(max_size=2000), min_size=1, max_size=3))
def test_what_was_packed_is_unpacked_also_in_several_members_and_from_a_pipe(name, members):
    data = b"".join(map(PACK[name], members))
    assert compression_of(data) == name
    assert unpacked(name, data) == unpacked(name, data, Trickle) == (b"".join(members), None)


@EACH
def test_a_cut_at_any_place_is_told_and_costs_only_what_is_behind_it(name):
    data = PACK[name](TEXT)
    for end in range(len(data) // 2, len(data), max(len(data) // 40, 1)):
        good, error = unpacked(name, data[:end])
        assert error is EOFError
        assert TEXT.startswith(good)


@given(NAMES, st.data())
def test_damage_is_told_and_nothing_else_happens(name, data):
    packed = bytearray(PACK[name](TEXT))
    for _ in range(data.draw(st.integers(1, 4))):
        packed[data.draw(st.integers(6, len(packed) - 1))] ^= data.draw(st.integers(1, 255))
    unpacked(name, bytes(packed))


@EACH
def test_bytes_of_another_kind_behind_the_data_are_damage_and_all_before_is_good(name):
    assert unpacked(name, PACK[name](TEXT) + b"something else entirely") == (TEXT, DamagedError)


@EACH
def test_a_bomb_is_unpacked_a_piece_at_a_time(name):
    bomb = PACK[name](bytes(64 << 20))
    pieces = list(islice(unpack(name, io.BytesIO(bomb)), 3))
    assert [len(piece) <= PIECE_BYTES for piece in pieces] == [True] * 3


def test_padding_between_and_after_members_is_none_of_the_data():
    for name in ("gzip", "xz"):
        data = PACK[name](b"one") + bytes(512) + PACK[name](b"two") + bytes(20_000)
        assert unpacked(name, data) == (b"onetwo", None)


def test_skippable_frames_are_skipped():
    skip = b"\x50\x2a\x4d\x18" + (3).to_bytes(4, "little") + b"abc"
    assert compression_of(skip + PACK["zstd"](b"x")) == "zstd"
    assert compression_of(skip + PACK["lz4"](b"x")) == "lz4"
    assert unpacked("zstd", skip + PACK["zstd"](b"one") + skip) == (b"one", None)


@pytest.mark.parametrize("head", [b"", b"BZh", b"BZh9 is a text", b"GET / HTTP/1.1", b"\xa1\xb2\xc3\xd4", b"\x1f"])
def test_what_is_not_packed_has_no_compression(head):
    assert compression_of(head) == ""
