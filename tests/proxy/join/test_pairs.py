"""Which logged try may be which try on the wire."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.proxy.join.attempts import group_entries
from pcapdiag.proxy.join.ledger import LogClock
from pcapdiag.proxy.join.pairs import CUT_URI, Pairing, end_of, normalize_peer
from pcapdiag.proxy.logs.entries import LogKind
from tests.proxy.join.builders import MS, OTHER, T0, S, entry, wire


def pairs_of(made, *wires, clock=None):
    pairing = Pairing(group_entries([made]), wires, None)
    fits = pairing.near(0, clock) if clock else pairing.of(0)
    return sorted(pairing.wires[position].conn for position in fits.positions)


@pytest.mark.parametrize(
    ("logged", "known"),
    [
        ("10.1.1.1:80", "10.1.1.1:80"),
        ("[2001:DB8:0:0::1]:443", "[2001:db8::1]:443"),
        ("user:secret@10.1.1.1:80", "10.1.1.1:80"),
        ("unix:/run/app.sock:", "unix:/run/app.sock:"),
        ("backend", "backend"),
    ],
)
def test_a_peer_has_one_form(logged, known):
    assert normalize_peer(logged) == known


@given(st.ip_addresses(v=6), st.integers(1, 65_535))
def test_the_form_of_a_peer_does_not_change_again(address, port):
    for text in (f"[{address}]:{port}", f"[{address.exploded}]:{port}"):
        assert normalize_peer(normalize_peer(text)) == normalize_peer(text) == normalize_peer(f"[{address}]:{port}")


def test_a_pair_has_the_peer_the_method_and_the_target_in_common():
    wires = [wire(500, conn=0), wire(500, conn=1, peer=OTHER), wire(500, conn=2, method="POST")]
    assert pairs_of(entry(0), *wires, wire(500, conn=3, target="/other")) == [0]


def test_what_one_of_the_two_does_not_know_does_not_part_them():
    assert pairs_of(entry(0), wire(500, method="", target="")) == [0]
    assert pairs_of(entry(0, method="HEAD"), wire(500)) == [0], "a cache turns HEAD into GET"


def test_a_target_that_the_log_has_cut_fits_by_its_beginning():
    long = "/" + "a" * CUT_URI
    assert pairs_of(entry(0, upstream_uri=long), wire(500, target=long + "bcd")) == [0]
    assert pairs_of(entry(0, upstream_uri="/ap"), wire(500, target="/api")) == []


def test_an_entry_without_packets_has_no_pair():
    assert pairs_of(entry(0, kind=LogKind.NO_LIVE_UPSTREAMS), wire(500)) == []


def test_what_may_fit_at_an_offset_is_near_it():
    clock = LogClock(offset_ns=3600 * S, width_ns=S, zone_s=0, pairs=1)
    assert pairs_of(entry(3620), wire(20_000, conn=0), wire(60_000, conn=1), clock=clock) == [0]


def test_of_what_packets_show_only_tries_that_ended_about_then_are_near():
    """The upstream's FIN fits the second, but the proxy closed long after: what it logged then is another entry."""
    clock = LogClock(offset_ns=0, width_ns=S, zone_s=0, pairs=1)
    held = wire(500, conn=1, orig_fin_ns=T0 + 60 * S, alert_ns=-1)
    assert pairs_of(entry(0), wire(500, conn=0), held, clock=clock) == [0]


methods = st.sampled_from(["", "GET", "HEAD", "POST", "PUT"])
uris = st.sampled_from(["", "/a", "/b", "/" + "c" * CUT_URI, "/" + "c" * CUT_URI + "d", "/" + "d" * CUT_URI])


@given(methods, uris, st.lists(st.tuples(methods, uris), max_size=8))
def test_pairs_are_those_that_the_definition_names(method, uri, asked):
    def is_same(other, target):
        if "" not in (method, other) and method != other and {method, other} != {"GET", "HEAD"}:
            return False
        return "" in (uri, target) or uri == target or (len(uri) > CUT_URI and target.startswith(uri))

    wires = [wire(500, conn=n, method=other, target=target) for n, (other, target) in enumerate(asked)]
    expected = [n for n, (other, target) in enumerate(asked) if is_same(other, target)]
    assert pairs_of(entry(0, method=method, upstream_uri=uri), *wires) == expected


def test_a_try_ends_with_its_close_or_else_where_its_last_packet_is():
    assert end_of(wire(0)) == T0 + 100 * MS + 100_000  # the proxy's FIN
    assert end_of(wire(0, orig_fin_ns=-1)) == T0 + 100 * MS
    assert end_of(wire(7, orig_fin_ns=-1, resp_fin_ns=-1)) == T0 + 7 * MS
