"""Which connection is which: sequence numbers decide, addresses help, what fits several is not joined."""

import pytest

from pcapdiag.analysis.ends.join import CaptureEnd, ConnectionRow, join_connections

S = 1_000_000_000
PROXY, UPSTREAM, NAT = 10, 20, 30


def row(conn=0, *, port=1000, src=PROXY, dst=UPSTREAM, isns=(100, 200), ts_s=0, capture=0, **other):
    orig_isn, resp_isn = isns
    fields = {
        "orig_max_ack": resp_isn + 51 if resp_isn >= 0 else -1,
        "resp_max_ack": orig_isn + 31 if orig_isn >= 0 else -1,
        "orig_bytes": 30,
        "resp_bytes": 50,
        "is_inferred": orig_isn < 0,
    } | other
    return ConnectionRow(
        conn=conn,
        orig=CaptureEnd(0, src, port),
        resp=CaptureEnd(0, dst, 80),
        orig_isn=orig_isn,
        resp_isn=resp_isn,
        first_ts_ns=ts_s * S,
        capture_idx=capture,
        **fields,
    )


def middle(conn=0, *, orig_ack=251, resp_ack=131, **other):
    """Return a connection whose beginning was not captured."""
    return row(conn, isns=(-1, -1), orig_max_ack=orig_ack, resp_max_ack=resp_ack, **other)


def numbers(joined):
    return {pair.near.conn: pair.far.conn for pair in joined.pairs}


def test_equal_addresses_and_initial_sequence_numbers_join():
    joined = join_connections([row(0), row(1, port=1001, isns=(7, 8))], [row(5, port=1001, isns=(7, 8)), row(6)])
    assert numbers(joined) == {0: 6, 1: 5}
    assert joined.alone == ()


def test_a_reused_port_joins_the_connection_of_its_own_numbers():
    joined = join_connections([row(0), row(1, isns=(300, 400), ts_s=60)], [row(0, isns=(300, 400)), row(1)])
    assert numbers(joined) == {0: 1, 1: 0}


def test_a_handshake_half_seen_joins_by_the_other_number():
    near = row(0)
    assert numbers(join_connections([near], [row(3, isns=(100, -1))])) == {0: 3}
    assert numbers(join_connections([near], [row(3, isns=(-1, 200))])) == {0: 3}
    assert numbers(join_connections([near], [row(3, isns=(100, 999))])) == {}


def test_translated_addresses_join_by_both_numbers():
    (pair,) = join_connections([row(0)], [row(4, src=NAT, port=5555, dst=21)]).pairs
    assert (pair.far.conn, pair.is_translated) == (4, True)


def test_one_number_alone_joins_no_translated_connection():
    joined = join_connections([row(0, isns=(100, -1))], [row(4, src=NAT, isns=(100, -1))])
    assert joined.pairs == ()


def test_attempts_join_where_their_upstreams_translation_is_known():
    attempts = row(1, port=1001, isns=(555, -1)), row(9, src=NAT, port=7, dst=21, isns=(555, -1))
    joined = join_connections([row(0), attempts[0]], [row(4, src=NAT, dst=21), attempts[1]])
    assert numbers(joined) == {0: 4, 1: 9}


def test_two_attempts_that_fit_the_same_upstream_are_no_chance():
    near = [row(0, isns=(100, -1)), row(1, isns=(101, -1))]
    far = [row(5, src=NAT, dst=21, isns=(100, -1)), row(6, src=NAT, dst=21, isns=(101, -1))]
    assert numbers(join_connections(near, far)) == {0: 5, 1: 6}


def test_numbers_that_fit_two_connections_are_ambiguous():
    far = [row(4, src=NAT), row(5, src=NAT + 1)]
    joined = join_connections([row(0)], far)
    assert (joined.pairs, joined.ambiguous) == ((), (0,))


def test_the_same_numbers_hours_apart_by_the_other_connections_are_not_joined():
    near = [row(0), row(1, port=1001, isns=(7, 8)), row(2, port=1002, isns=(70, 80))]
    far = [row(0), row(1, port=1001, isns=(7, 8)), row(2, src=NAT, isns=(70, 80), ts_s=9000)]
    joined = join_connections(near, far)
    assert numbers(joined) == {0: 0, 1: 1}
    assert joined.ambiguous == (2,)


def test_the_same_connection_in_two_captures_is_taken_from_the_first():
    joined = join_connections([row(0)], [row(7, capture=1), row(8, capture=0)])
    assert numbers(joined) == {0: 8}
    assert joined.n_in_several_captures == 1


def test_connections_from_their_middle_join_by_overlapping_numbers():
    assert numbers(join_connections([middle(0)], [row(3)])) == {0: 3}
    assert numbers(join_connections([row(0)], [middle(3)])) == {0: 3}
    assert numbers(join_connections([middle(0)], [middle(3, orig_ack=301, resp_bytes=99)])) == {0: 3}
    assert numbers(join_connections([middle(0)], [middle(3, orig_ack=90_000, resp_ack=90_000)])) == {}


def test_a_middle_whose_ends_were_guessed_the_other_way_round_joins():
    turned = middle(3, src=UPSTREAM, dst=PROXY)._replace(
        orig=CaptureEnd(0, UPSTREAM, 80),
        resp=CaptureEnd(0, PROXY, 1000),
        orig_max_ack=131,
        resp_max_ack=251,
        orig_bytes=50,
        resp_bytes=30,
    )
    (pair,) = join_connections([middle(0)], [turned]).pairs
    assert pair.is_flipped
    assert pair.far.orig == pair.near.orig


def test_numbers_around_the_wrap_overlap():
    near = middle(0, orig_ack=20, resp_ack=2**32 - 3)
    assert numbers(join_connections([near], [middle(3, orig_ack=2**32 - 10, resp_ack=8)])) == {0: 3}


def test_endpoints_without_any_number_are_ambiguous_not_guessed():
    joined = join_connections([row(0, isns=(100, -1))], [middle(3, orig_ack=-1, resp_ack=-1)])
    assert (joined.pairs, joined.ambiguous) == ((), (0,))


@pytest.mark.parametrize("shifts", [(1000, 0), (0, 1000), (1000, 1000)])
def test_rewritten_numbers_are_told_where_several_agree_in_time(shifts):
    near = [row(n, port=1000 + n, isns=(100 + n, 200 + n), ts_s=n) for n in range(3)]
    far = [row(n, port=1000 + n, isns=(100 + n + shifts[0], 200 + n + shifts[1]), ts_s=n + 3600) for n in range(3)]
    joined = join_connections(near, far)
    assert (joined.pairs, joined.renumbered) == ((), (0, 1, 2))


def test_the_same_endpoints_at_other_times_are_no_rewriting():
    near = [row(n, port=1000 + n, isns=(100 + n, 200 + n), ts_s=n) for n in range(3)]
    far = [row(n, port=1000 + n, isns=(900 + n, 800 + n), ts_s=1000 * n) for n in range(3)]
    joined = join_connections(near, far)
    assert joined.renumbered == ()
    assert len(joined.alone) == 3


def test_only_connections_of_a_joined_proxy_count_as_missing_there():
    far = [row(0), row(1, port=1001, isns=(1, 2)), row(2, src=99, isns=(3, 4)), row(3, dst=77, isns=(5, 6))]
    assert join_connections([row(0)], far).n_far_unpaired == 1
