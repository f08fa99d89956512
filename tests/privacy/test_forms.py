"""Notations of addresses: what they mean, and how the like is written."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.privacy.forms import NUMERIC, Number, find_forms, from_arpa, is_dotted_name, parse_address


@given(st.integers(0, (1 << 32) - 1))
def test_an_address_is_read_from_every_notation_and_written_in_the_same(value):
    address = IPv4Address(value)
    other = IPv4Address(value ^ 0x01010101)
    for write in (
        lambda a: "-".join(str(a).split(".")),
        lambda a: a.packed.hex(),
        lambda a: f"0x{a.packed.hex().upper()}",
        lambda a: ".".join(f"0x{octet:02x}" for octet in a.packed),
    ):
        match = NUMERIC.fullmatch(write(address))
        read, write_other = next(Number.read(match).readings())
        assert read == value
        assert write_other(int(other)).lower() == write(other).lower()


@given(st.integers(0, (1 << 128) - 1))
def test_a_reverse_name_is_that_of_its_address(value):
    for address in (IPv6Address(value), IPv4Address(value >> 96)):
        assert from_arpa(address.reverse_pointer) == address


@pytest.mark.parametrize("name", ["1.2.3.arpa", "300.1.1.1.in-addr.arpa", "1.ip6.arpa", "example.arpa"])
def test_no_other_name_is_a_reverse_one(name):
    assert from_arpa(name) is None


def test_leading_zeros_do_not_hide_an_address():
    assert parse_address("010.001.000.009") == IPv4Address("10.1.0.9")
    assert parse_address("10.1.0.256") is None
    assert parse_address("a.b.c.d") is None


@pytest.mark.parametrize(
    ("text", "is_name"), [("a.example", True), ("nginx.conf", False), ("1.2.3.4", False), ("a", False)]
)
def test_names_of_files_are_none_of_machines(text, is_name):
    assert is_dotted_name(text) is is_name


def test_times_are_no_addresses_and_their_neighbours_are_read():
    text = "23:56:28 cafe:80:1 node-2001:db8::1 10.1.1.1"
    found = [(text[start:end], kind) for start, end, kind in find_forms(text)]
    assert ("2001:db8::1", "address") in found
    assert ("10.1.1.1", "address") in found
    assert ("cafe", "word") in found
    assert not [what for what, kind in found if kind == "address" and what.startswith("23")]
