"""What files look like from their first bytes."""

import bz2
import gzip
import lzma

import lz4.frame
import pytest
import zstandard

from pcapdiag.base.codecs import compression_of
from pcapdiag.engine.capture.kernels import containers
from pcapdiag.engine.capture.sniff import PCAP_MAGICS, container_of, describe, not_a_capture
from tests.engine.capture import files


@pytest.mark.parametrize("magic", sorted(PCAP_MAGICS))
def test_every_pcap_magic_is_known(magic):
    assert container_of(magic + bytes(20)) == "pcap"


def test_pcapng_is_known_in_both_byte_orders():
    assert container_of(files.shb("<")) == container_of(files.shb(">")) == "pcapng"
    assert container_of(b"\x0a\x0d\x0d\x0a" + bytes(20)) == ""


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("gzip", gzip.compress),
        ("zstd", zstandard.compress),
        ("xz", lzma.compress),
        ("bzip2", bz2.compress),
        ("lz4", lz4.frame.compress),
    ],
)
def test_every_compression_is_told_by_its_magic_even_of_nothing(name, pack):
    for data in (b"", b"data"):
        assert compression_of(pack(data)) == name


def test_a_skippable_frame_announces_zstd_or_lz4():
    skippable = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"size"
    assert compression_of(skippable + zstandard.compress(b"x")) == "zstd"
    assert compression_of(skippable + lz4.frame.compress(b"x")) == "lz4"


def test_a_text_that_begins_like_bzip2_is_a_text():
    assert compression_of(b"BZh is short for ...") == ""
    assert describe(b"BZh is short for ...\n") == "text"


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"\x7fELF\x02", "an ELF program"),
        (b"PK\x03\x04rest", "zip"),
        (b"snoop\x00\x00\x00\x00\x00\x00\x02", "editcap"),
        (b"%PDF-1.7", "PDF"),
        (bytes(257) + b"ustar\x00", "tar"),
        (bytes(64), "zeros"),
        (b"<!doctype html>", "HTML"),
        (b"\n  <html lang=en>", "HTML"),
        (b"<?xml version='1.0'?><pdml>", "XML"),
        (b'\xef\xbb\xbf{"log": {}}', "JSON"),
        (b"[]", "JSON"),
        (b"#!/bin/sh\n", "script"),
        (b"12:00:00.1 IP 10.0.0.1.80 > 10.0.0.2.90: Flags [S]\n", "tcpdump -w"),
        (b"0000  45 00 00 3c\n", "text2pcap"),
        ("Grüße\n".encode(), "text"),
        ("text".encode("utf-16"), "UTF-16"),
        (b"\x01\x02\x03\x04\x05\x06\x07\x08", "it begins with 01 02 03"),
        (gzip.compress(b"x", mtime=0), "packed twice"),
    ],
)
def test_other_content_is_described(head, words):
    assert words in describe(head)


def test_the_message_says_what_to_do():
    assert "tcpdump -w -" in not_a_capture("-", b"")
    assert "tcpdump -U" in not_a_capture("x.pcap", b"")
    assert "gzip of text" in not_a_capture("x.pcap", b"hello\n", "gzip")
    assert "nothing could be unpacked" in not_a_capture("x.gz", b"", "gzip")
    assert not_a_capture("-", b"hello\n").startswith("standard input is not a capture")


def test_the_kernel_knows_the_same_magic_numbers():
    assert {number.to_bytes(4, "big") for number in containers._PCAP_MAGICS} == set(PCAP_MAGICS)
