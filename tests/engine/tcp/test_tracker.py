"""What the tracker makes of segments: fates, connections, times; and how its memory grows and stays bounded."""

from dataclasses import replace

import numpy as np
import pytest

from pcapdiag.base.codes import ClosingKind, ConnEnd, ConnState, Direction, Fate, PacketDirection, StreamEventKind
from pcapdiag.engine.tcp.kernels import tcp_state as state
from pcapdiag.engine.tcp.tracker import EVENTS, Tracker
from tests.engine.tcp.kernels.plain_tcp import (
    ACK,
    CLIENT,
    FIN,
    MOD,
    MS,
    PSH,
    RST,
    SERVER,
    SYN,
    Segment,
    from_script,
    make_batch,
)

S = 10**9
HANDSHAKE = """
    +0 > S
    +0.02 < S.
    +0.0001 > .
"""


def follow(*batches, finish=True, **options):
    """Return (events, rows, tracker); bytes of an event are in its `data`."""
    tracker = Tracker(all_segments=True, **options)
    events, rows, first = [], [], 0

    def take(tracked):
        for e in tracked.events:
            told = {name: e[name].item() for name in e.dtype.names}
            source = tracked.piece_bytes if told["source"] else tracked.buffer
            at = told["data_offset"]
            told["data"] = source[at : at + told["data_cap"]].tobytes() if told["data_cap"] else b""
            events.append(told)
        rows.extend({name: r[name].item() for name in r.dtype.names} for r in tracked.conn_rows)

    for batch in batches:
        for tracked in tracker.update(make_batch(batch, first)):
            take(tracked)
        first += len(batch)
    if finish:
        for tracked in tracker.finish():
            take(tracked)
    return events, sorted(rows, key=lambda r: r["conn"]), tracker


def fates(script, **options):
    """Return the names of the fates of a script's segments."""
    events, _, _ = follow(from_script(script), **options)
    return [Fate(e["fate"]).name for e in events if e["kind"] == StreamEventKind.SEGMENT]


def last_fate(script, **options):
    return fates(script, **options)[-1]


def row_of(script, **options):
    _, (row,), _ = follow(from_script(script), **options)
    return row


def stream(events, side):
    """Return the delivered bytes of one direction; dots for a hole."""
    return b"".join(
        e["data"].ljust(e["data_len"], b"." if e["kind"] == StreamEventKind.HOLE else b"?")
        for e in events
        if e["dir"] == side and e["data_len"]
    )


# Fates.


def test_payload_that_extends_the_stream_is_new():
    assert last_fate(HANDSHAKE + "+0 > P. 1:6(5)") == "NEW"


def test_payload_seen_before_is_a_retransmission():
    assert last_fate(HANDSHAKE + "+0 > P. 1:6(5)\n+0.3 > P. 1:6(5)") == "RETRANSMISSION"


def test_payload_acknowledged_before_is_a_spurious_retransmission():
    script = HANDSHAKE + "+0 > P. 1:6(5)\n+0.01 < . ack 6\n+0.3 > P. 1:6(5)"
    assert last_fate(script) == "SPURIOUS_RETRANSMISSION"


def test_payload_below_the_highest_that_was_not_seen_is_out_of_order():
    assert last_fate(HANDSHAKE + "+0 > P. 6:11(5)\n+0.001 > P. 1:6(5)") == "OUT_OF_ORDER"


def test_payload_partly_old_is_an_overlap_and_delivers_its_new_bytes_only():
    events, _, _ = follow(from_script(HANDSHAKE + "+0 > P. 1:6(5)\n+0.001 > P. 4:9(5)"))
    assert Fate(events[-2]["fate"]) == Fate.OVERLAP
    assert stream(events, 0) == b"bcdefghi"


def test_a_repeated_syn_and_a_repeated_fin_are_retransmissions():
    assert fates("+0 > S\n+1 > S 0:0(0)") == ["NEW", "RETRANSMISSION"]
    assert fates(HANDSHAKE + "+0 > F.\n+1 > F. 1:1(0)")[-2:] == ["NEW", "RETRANSMISSION"]


@pytest.mark.parametrize("probe", ["+9 > . 5:5(0)", "+9 > . 5:6(1)"])
def test_a_keep_alive_probe_repeats_the_last_byte_or_none_and_delivers_nothing(probe):
    events, _, _ = follow(from_script(HANDSHAKE + "+0 > P. 1:6(5)\n+0.01 < . ack 6\n" + probe + "\n+0.01 < . ack 6"))
    told = [Fate(e["fate"]).name for e in events if e["kind"] == StreamEventKind.SEGMENT]
    assert told[-2:] == ["KEEP_ALIVE", "KEEP_ALIVE_ACK"]
    assert stream(events, 0) == b"bcdef"


def test_a_window_probe_is_one_new_byte_while_the_window_is_closed():
    script = HANDSHAKE + "+0 > P. 1:6(5)\n+0.01 < . ack 6 win 0\n+0.3 > . 6:7(1)"
    assert last_fate(script) == "ZERO_WINDOW_PROBE"
    assert last_fate(script.replace(" win 0", "")) == "NEW"


def test_an_acknowledgement_repeated_while_bytes_are_missing_is_a_duplicate_one():
    script = HANDSHAKE + "+0 > P. 1:6(5)\n+0.01 < . ack 6\n+0 > P. 11:16(5)\n+0.01 < . ack 6"
    assert last_fate(script) == "DUP_ACK"
    assert last_fate(script + " win 9") == "PURE_ACK"


def test_payload_behind_a_fin_is_outside_the_window():
    assert last_fate(HANDSHAKE + "+0 > F. 1:6(5)\n+0.1 > P. 7:9(2)") == "OUTSIDE_WINDOW"


def test_payload_far_ahead_is_outside_the_window_and_moves_nothing():
    events, (row,), tracker = follow(from_script(HANDSHAKE + "+0 > P. 90000000:90000005(5)\n+0 > P. 1:6(5)"))
    assert [Fate(e["fate"]).name for e in events if e["payload_len"]] == ["OUTSIDE_WINDOW", "NEW"]
    assert row["orig_bytes"] == 5
    assert tracker.n_outside == 1


def test_what_follows_ones_own_reset_is_after_it():
    assert fates(HANDSHAKE + "+0 > R.\n+0.1 > P. 1:6(5)\n+0.1 > R")[-3:] == ["RESET", "AFTER_RST", "AFTER_RST"]


def test_a_reset_carries_no_stream_bytes():
    events, (row,), _ = follow(from_script(HANDSHAKE + "+0 < R. 1:6(5)"))
    assert Fate(events[-2]["fate"]) == Fate.RESET
    assert row["resp_bytes"] == 0


@pytest.mark.parametrize(
    ("second", "fate"),
    [
        ("+0.9 > P. 1:6(5) id 7", "DUPLICATE_CAPTURE"),
        ("+1.1 > P. 1:6(5) id 7", "RETRANSMISSION"),
        ("+0.3 > P. 1:6(5) id 8", "RETRANSMISSION"),
        ("+0.3 > P. 1:5(4) id 7", "RETRANSMISSION"),
    ],
)
def test_the_same_identification_within_a_second_is_the_same_packet(second, fate):
    assert last_fate(HANDSHAKE + "+0 > P. 1:6(5) id 7\n" + second) == fate


def test_without_identification_the_same_packet_is_the_one_within_two_milliseconds():
    script = HANDSHAKE + "+0 > P. 1:6(5)\n"
    assert last_fate(script + "+0.002 > P. 1:6(5)") == "DUPLICATE_CAPTURE"
    assert last_fate(script + "+0.003 > P. 1:6(5)") == "RETRANSMISSION"


def test_a_retransmission_captured_twice_is_one_retransmission():
    script = HANDSHAKE + "+0 > P. 1:6(5)\n+0.3 > P. 1:6(5)\n+0.00001 > P. 1:6(5)"
    assert fates(script)[-2:] == ["RETRANSMISSION", "DUPLICATE_CAPTURE"]


def test_another_timestamp_option_is_another_packet():
    segments = from_script(HANDSHAKE + "+0 > P. 1:6(5)\n+0.001 > P. 1:6(5)")
    segments[-2:] = [replace(s, ts_val=5 + i) for i, s in enumerate(segments[-2:])]
    _, (row,), tracker = follow(segments)
    assert (row["orig_retransmissions"], tracker.n_duplicates) == (1, 0)
    assert tracker.n_retransmissions == 1


def test_a_duplicate_counts_as_no_segment():
    _, (row,), tracker = follow(from_script("+0 > S\n+0 > S 0:0(0)\n+0.01 < S.\n+0 < S. 0:0(0)"))
    assert (row["orig_frames"], row["resp_frames"], tracker.n_duplicates, tracker.n_segments) == (1, 1, 2, 4)
    assert (row["syn_frames"], row["syn_ack_frames"]) == (1, 1)


# Streams.


def test_bytes_out_of_order_are_delivered_in_order_with_the_frame_that_brought_them():
    events, _, _ = follow(from_script(HANDSHAKE + "+0 > . 6:11(5)\n+0.001 > . 11:13(2)\n+0.001 > . 1:6(5)"))
    assert [(e["frame"], e["kind"]) for e in events if e["data_len"]] == [
        (5, StreamEventKind.SEGMENT),
        (3, StreamEventKind.RELEASED),
        (4, StreamEventKind.RELEASED),
    ]
    assert stream(events, 0) == b"bcdefghijklm"


def test_bytes_acknowledged_and_not_captured_are_a_hole_as_old_as_the_acknowledgement():
    """A hole must not look younger than it is, or the idle gap behind it would vanish."""
    events, (row,), tracker = follow(from_script(HANDSHAKE + "+0 < P. 1:6(5) lost\n+0.1 > . ack 6\n+60 > P. 1:4(3)"))
    (hole,) = [e for e in events if e["kind"] == StreamEventKind.HOLE]
    assert (hole["dir"], hole["stream_offset"], hole["data_len"], hole["seq"]) == (1, 0, 5, 5001)
    assert hole["ts_ns"] == from_script(HANDSHAKE + "+0.1 > .")[-1].ts_ns
    assert (row["n_holes"], row["hole_bytes"], row["resp_bytes"], tracker.n_holes) == (1, 5, 5, 1)


def test_a_hole_at_the_end_is_as_old_as_the_acknowledgement_too():
    segments = from_script(HANDSHAKE + "+0 < P. 1:6(5) lost\n+0.1 > . ack 6")
    other = replace(segments[0], ts_ns=segments[-1].ts_ns + 1000 * S, src=(*CLIENT[:2], 50000))
    events, _, _ = follow([*segments, other])
    (hole,) = [e for e in events if e["kind"] == StreamEventKind.HOLE]
    assert hole["ts_ns"] == segments[-1].ts_ns


def test_an_acknowledgement_a_little_before_its_data_is_no_hole():
    """Queues of `-i any` are not in order."""
    script = HANDSHAKE + "+0 > . 1:1(0) ack 6\n+0.004 < P. 1:6(5)\n+0.01 > ."
    assert row_of(script)["n_holes"] == 0
    assert row_of(script.replace("0.004", "0.006"))["n_holes"] == 1


def test_one_acknowledged_byte_more_may_be_a_fin_that_was_not_captured():
    assert row_of(HANDSHAKE + "+0 < F. 1:1(0) lost\n+0.1 > . ack 2\n+1 > . ack 2")["n_holes"] == 0
    assert row_of(HANDSHAKE + "+0 < P. 1:3(2) lost\n+0.1 > . ack 3\n+1 > . ack 3")["hole_bytes"] == 2


def test_bytes_beyond_the_snap_length_are_stream_bytes_without_content():
    segments = [replace(s, cap=3) for s in from_script(HANDSHAKE + "+0 > . 6:11(5)\n+0.001 > . 1:6(5)")]
    events, (row,), _ = follow(segments)
    assert stream(events, 0) == b"bcd??ghi??"
    assert (row["orig_bytes"], row["n_holes"]) == (10, 0)


def test_large_segments_out_of_order_are_kept_whole():
    big = bytes(range(256)) * 250
    start = from_script(HANDSHAKE)
    base = replace(start[-1], flags=ACK)
    late = [
        replace(base, seq=1001 + 7, payload=big),
        replace(base, seq=1001 + 7 + len(big), payload=big[:5000], cap=4100),
        replace(base, payload=b"1234567"),
    ]
    events, (row,), _ = follow(start, late)
    assert stream(events, 0) == b"1234567" + big + big[:4100] + b"?" * 900
    assert row["orig_bytes"] == 7 + len(big) + 5000


def n_given_up(events):
    return sum(event["kind"] == StreamEventKind.HOLE for event in events)


def test_so_many_pieces_out_of_order_are_waited_for_and_no_more():
    """The hole before the oldest piece is given up then; memory for one flow is bounded."""
    start = from_script(HANDSHAKE)
    base = replace(start[-1], flags=ACK, payload=b"x")
    pieces = [replace(base, seq=1001 + 2 * (i + 1)) for i in range(state.MAX_PENDING_PER_FLOW + 1)]
    events, _, _ = follow(start + pieces[:-1], finish=False)
    assert n_given_up(events) == 0
    events, _, tracker = follow(start + pieces, finish=False)
    assert n_given_up(events) == 1
    assert tracker.n_holes == 0  # nobody has acknowledged it: the capture may have missed nothing
    assert stream(events, 0) == b"..x"


def test_single_bytes_before_jumbo_segments_stay_within_the_bound():
    start = from_script(HANDSHAKE)
    base = replace(start[-1], flags=ACK, payload=b"x")
    small = [replace(base, seq=1001 + 2 * (i + 1)) for i in range(state.MAX_PENDING_PER_FLOW)]
    big = [replace(base, seq=10_000 + 60_000 * i, payload=bytes(50_000)) for i in range(10)]
    tracker = Tracker(all_segments=True)
    n_holes = 0
    for batch in (start + small, big):
        for tracked in tracker.update(make_batch(batch)):
            assert (tracker.flows["n_pending"] <= state.MAX_PENDING_PER_FLOW).all()
            n_holes += int((tracked.events["kind"] == StreamEventKind.HOLE).sum())
    assert n_holes > 20


def test_pieces_that_wait_follow_what_was_captured_and_not_what_a_segment_claims():
    start = from_script(HANDSHAKE)
    batch = make_batch([*start, *(replace(start[-1], seq=5001 + 2 * i, payload=b"x") for i in range(100))])
    batch.frames["payload_len"][len(start) :] = 60_000_000
    tracker = Tracker(all_segments=True)
    for _ in tracker.update(batch):
        pass
    assert (len(tracker._arrays.pieces), int(tracker.flows["n_pending"].max())) == (256, 100)


def test_pieces_of_all_connections_together_are_bounded_and_what_waited_is_delivered():
    syn, syn_ack, ack = from_script(HANDSHAKE)
    n_conn, n_each = 16, 100
    segments = []
    for n in range(n_conn):
        client = (*CLIENT[:2], 20_000 + n)
        segments += [replace(syn, src=client), replace(syn_ack, dst=client), replace(ack, src=client)]
        segments += [replace(ack, src=client, seq=1003 + 2 * i, payload=b"x") for i in range(n_each)]
    events, rows, tracker = follow(segments, max_pieces=512)
    assert len(tracker._arrays.pieces) == 512
    assert n_given_up(events) == n_conn * n_each
    assert sum(e["data_len"] for e in events if e["kind"] == StreamEventKind.RELEASED) == n_conn * n_each
    assert [row["orig_bytes"] for row in rows] == [1 + 2 * n_each] * n_conn


@pytest.mark.compiled_only
def test_the_events_of_a_connections_end_never_outgrow_the_output():
    """Both flows full of pieces with holes between, given up at once when there is little room for events left."""
    start = from_script(HANDSHAKE)
    n = state.MAX_PENDING_PER_FLOW
    pieces = [replace(start[2], seq=1001 + 2 * (i + 1), payload=b"x") for i in range(n)]
    pieces += [replace(start[1], flags=ACK, ack=1001, seq=5001 + 2 * (i + 1), payload=b"x") for i in range(n)]
    reuse = replace(start[0], seq=1)
    tracker = Tracker(all_segments=True)
    for _ in tracker.update(make_batch([*start, *pieces])):
        pass
    n_filler = EVENTS - state.EVENT_MARGIN - 2
    batch = make_batch([Segment(10**9, (*CLIENT[:2], 50000), SERVER, ACK | PSH, 1), reuse])
    batch.frames = np.concatenate([np.repeat(batch.frames[:1], n_filler), batch.frames[1:]])
    (tracked,) = tracker.update(batch)
    n_given_up = 4 * n
    assert len(tracked.events) == 1 + n_filler + n_given_up + 1 + 2


# Connections.


def test_the_sender_of_a_syn_is_the_originator_and_of_a_syn_ack_the_responder():
    for script in ("+0 > S", "+0 < S. ack 1"):
        row = row_of(script)
        assert (row["orig_lo"], row["orig_port"], row["orig_inferred"]) == (CLIENT[1], CLIENT[2], 0)


@pytest.mark.parametrize(
    ("src", "dst", "payload", "orig"),
    [
        (40000, 80, b"", 40000),
        (80, 40000, b"", 40000),
        (8080, 40000, b"", 40000),
        (40000, 8080, b"x", 40000),
        (40000, 50000, b"", 40000),
        (40000, 50000, b"HTTP/1.1 200 OK", 50000),
        (40000, 80, b"HTTP/1.1 200 OK", 80),
    ],
)
def test_without_a_syn_the_originator_is_inferred_from_words_and_ports(src, dst, payload, orig):
    s = Segment(0, (*CLIENT[:2], src), (*SERVER[:2], dst), ACK, 5, 6, payload)
    _, (row,), _ = follow([s])
    assert (row["orig_port"], row["orig_inferred"]) == (orig, 1)


def test_the_two_halves_of_the_handshake_are_timed_apart():
    row = row_of(HANDSHAKE)
    assert (row["handshake_resp_ns"], row["handshake_orig_ns"]) == (20 * MS, MS // 10)


def test_a_repeated_syn_leaves_the_handshake_untimed():
    row = row_of("+0 > S\n+1 > S 0:0(0)\n+0.02 < S.\n+0 > .")
    assert (row["handshake_resp_ns"], row["handshake_orig_ns"], row["syn_frames"]) == (-1, -1, 2)


def test_a_clock_that_steps_back_gives_no_time_rather_than_a_negative_one():
    segments = from_script(HANDSHAKE)
    segments[1:] = [replace(s, ts_ns=s.ts_ns - S) for s in segments[1:]]
    _, (row,), _ = follow(segments)
    assert (row["handshake_resp_ns"], row["handshake_orig_ns"]) == (-1, -1)
    assert row["first_ts_ns"] == row["last_ts_ns"] == segments[0].ts_ns


def test_the_round_trip_is_the_shortest_from_originator_data_to_its_acknowledgement():
    script = HANDSHAKE + "+0 > P. 1:6(5)\n+0.03 < .\n+1 > P. 6:11(5)\n+0.01 < .\n+1 < P. 1:9(8)\n+0.0001 > ."
    assert row_of(script)["rtt_min_ns"] == 10 * MS


def test_the_first_closing_is_remembered_with_its_numbers():
    row = row_of(HANDSHAKE + "+0 > P. 1:6(5)\n+5 < F. ack 1\n+0.01 > F. ack 2\n+0.01 < R")
    assert (row["first_closer"], row["closing_kind"], row["closing_frame"]) == (Direction.RESP, ClosingKind.FIN, 4)
    assert (row["closing_seq"], row["closing_ack"]) == (5001, 1001)
    assert (row["orig_fin"], row["resp_fin"], row["orig_rst"], row["resp_rst"], row["closing_rst_seen"]) == (
        1,
        1,
        0,
        1,
        1,
    )


@pytest.mark.parametrize(
    ("script", "name", "history"),
    [
        ("+0 > S", "S0", "S"),
        ("+0 > S\n+0.1 < R. ack 1", "REJ", "Sr"),
        ("+0 > S\n+0.1 > R", "RSTOS0", "SR"),
        ("+0 > S\n+0.1 > F", "SH", "SF"),
        ("+0 < S. ack 1\n+0.1 < R", "RSTRH", "hr"),
        ("+0 < S. ack 1\n+0.1 < F.", "SHR", "hf"),
        (HANDSHAKE, "S1", "ShA"),
        (HANDSHAKE + "+1 > F.\n+0 < F.", "SF", "ShAFf"),
        (HANDSHAKE + "+1 > F.", "S2", "ShAF"),
        (HANDSHAKE + "+1 < F.", "S3", "ShAf"),
        (HANDSHAKE + "+1 > R.", "RSTO", "ShAR"),
        (HANDSHAKE + "+1 < R.", "RSTR", "ShAr"),
        (HANDSHAKE + "+1 > P. 1:3(2)\n+1 > P. 1:3(2)\n+0 < P. 1:3(2) win 0", "S1", "ShADTdw"),
        ("+0 > P. 1:3(2)\n+1 < P. 1:3(2)", "OTH", "Dd"),
    ],
)
def test_the_state_and_the_history_are_zeeks(script, name, history):
    row = row_of(script)
    assert ConnState(row["conn_state"]).name == name
    assert row["history"] == history.encode()


def test_a_new_syn_on_the_same_endpoints_is_a_new_connection():
    again = replace(from_script("+0 > S", isns=(9000, 0))[0], ts_ns=5 * S)
    _, rows, tracker = follow([*from_script(HANDSHAKE), again])
    assert [(r["end"], r["orig_isn"]) for r in rows] == [(ConnEnd.PORT_REUSE, 1000), (ConnEnd.CAPTURE_END, 9000)]
    assert tracker.n_connections == 2


def test_the_same_syn_again_is_no_new_connection():
    assert len(follow(from_script(HANDSHAKE + "+3 > S 0:0(0)"))[1]) == 1


def test_data_far_away_on_a_closed_connection_is_a_new_one_whose_syn_is_missing():
    closed = from_script(HANDSHAKE + "+0 > P. 1:6(5)\n+0 > R.")
    far = replace(closed[3], seq=1001 + (1 << 21), ts_ns=9 * S)
    _, rows, _ = follow([*closed, far])
    assert [r["orig_inferred"] for r in rows] == [0, 1]


def test_numbers_wrap_without_a_trace():
    script = HANDSHAKE + "+0 > P. 1:400(399)\n+0.01 < P. 1:300(299)\n+0 > F.\n+0 < F.\n+0 > ."
    near, far = (follow(from_script(script, isns=isns)) for isns in ((5, 9), (MOD - 100, MOD - 2)))
    assert stream(near[0], 0) == stream(far[0], 0)
    assert stream(near[0], 1) == stream(far[0], 1)
    kept = ("orig_bytes", "resp_bytes", "conn_state", "history", "rtt_min_ns", "n_holes")
    assert [near[1][0][k] for k in kept] == [far[1][0][k] for k in kept]


@pytest.mark.parametrize(
    ("ways", "orig_local"),
    [
        ((PacketDirection.OUTBOUND, PacketDirection.INBOUND), 1),
        ((PacketDirection.INBOUND, PacketDirection.OUTBOUND), 0),
        ((PacketDirection.UNKNOWN, PacketDirection.UNKNOWN), -1),
        ((PacketDirection.OTHER, PacketDirection.OTHER), -1),
        ((PacketDirection.INBOUND, PacketDirection.INBOUND), -1),
    ],
)
def test_the_capturing_machine_is_an_end_if_each_direction_goes_one_way(ways, orig_local):
    segments = [replace(s, way=ways[s.src == SERVER]) for s in from_script(HANDSHAKE)]
    _, (row,), _ = follow(segments)
    assert row["orig_local"] == orig_local


def test_the_time_to_live_of_a_reset_is_nobodys():
    """A middlebox may have sent it."""
    assert row_of("+0 > S ttl 64\n+0 < R. ack 1 ttl 9\n+0 < . ttl 55")["resp_ttl"] == 55


# Memory.


def flood(n, *, start_ns=0, step_ns=1000, flags=SYN):
    return [Segment(start_ns + i * step_ns, (7, i, 1024 + i % 60000), SERVER, flags, 1, 1) for i in range(n)]


def test_slots_grow_and_every_connection_stays_findable():
    """More than the table's first size: each second segment finds what the first began."""
    first = flood(3000)
    second = [replace(s, flags=ACK | PSH, seq=2, ts_ns=s.ts_ns + S, payload=b"a") for s in first]
    _, rows, tracker = follow(first, second)
    assert tracker.n_connections == 3000
    assert all((r["orig_frames"], r["orig_bytes"]) == (2, 1) for r in rows)


def test_removing_a_connection_leaves_all_others_findable():
    """Closed ones are swept between batches, in several thousands; a probe sequence must not break."""
    n = 2000
    first = flood(n, step_ns=0)
    resets = [replace(s, flags=RST, ts_ns=1, seq=2) for s in first[::2]]
    tracker = Tracker()
    rows = []
    for batch in (first, resets):
        for tracked in tracker.update(make_batch(batch)):
            rows.extend(tracked.conn_rows.copy())
    quiet = [replace(first[1], ts_ns=100 * S + i, flags=ACK, seq=2) for i in range(20)]
    for s in quiet:  # each call sweeps a sixteenth
        for tracked in tracker.update(make_batch([s])):
            rows.extend(tracked.conn_rows.copy())
    assert len(rows) == n // 2
    assert {r["end"] for r in rows} == {ConnEnd.CLOSED}
    third = [replace(s, flags=ACK | PSH, seq=2, ts_ns=101 * S, payload=b"a") for s in first[1::2]]
    for tracked in tracker.update(make_batch(third)):
        rows.extend(tracked.conn_rows.copy())
    assert tracker.n_connections == n
    for tracked in tracker.finish():
        rows.extend(tracked.conn_rows.copy())
    assert sorted(r["conn"] for r in rows) == list(range(n))
    assert sum(int(r["orig_bytes"]) for r in rows) == n // 2


@pytest.mark.parametrize("max_live", [64, 100, 1000])
def test_the_bound_on_live_connections_gives_up_the_longest_idle(max_live):
    events, rows, tracker = follow(flood(3 * max_live), max_live=max_live)
    evicted = [r for r in rows if r["end"] == ConnEnd.EVICTED]
    assert tracker.n_evicted == len(evicted) >= 2 * max_live
    assert len(rows) == 3 * max_live
    assert max(r["last_ts_ns"] for r in evicted) < min(r["last_ts_ns"] for r in rows if r["end"] == ConnEnd.CAPTURE_END)
    opened = [e["conn"] for e in events if e["kind"] == StreamEventKind.OPEN]
    assert opened == list(range(3 * max_live))


def test_a_busy_connection_survives_a_flood():
    busy = from_script(HANDSHAKE)
    segments = list(busy)
    for n in range(40):
        segments += flood(50, start_ns=S + n * S + n * 10**6, step_ns=1)
        segments = [*segments[:-50], *[replace(s, src=(8, n, s.src[2])) for s in segments[-50:]]]
        segments.append(replace(busy[2], ts_ns=S + n * S + 5 * 10**8, seq=1001 + n, payload=b"x"))
    _, rows, _ = follow(segments, max_live=128)
    assert rows[0]["orig_bytes"] == 40
    assert rows[0]["end"] == ConnEnd.CAPTURE_END


@pytest.mark.parametrize(
    ("script", "age_s", "end"),
    [
        (HANDSHAKE + "+0 > F.\n+0 < F.", 61, ConnEnd.CLOSED),
        (HANDSHAKE + "+0 > F.\n+0 < F.", 59, None),
        (HANDSHAKE + "+0 > R.", 61, ConnEnd.CLOSED),
        (HANDSHAKE, 10_000, None),
        ("+0 > S", 181, ConnEnd.ABANDONED),
        ("+0 > S", 179, None),
    ],
)
def test_quiet_connections_leave_when_nothing_more_is_to_be_expected(script, age_s, end):
    segments = from_script(script)
    later_ns = segments[-1].ts_ns + age_s * S
    pings = [[Segment(later_ns, (9, 9, 9), SERVER, ACK, 1, 1)] for _ in range(17)]
    _, rows, _ = follow(segments, *pings, finish=False)
    assert [r["end"] for r in rows] == ([] if end is None else [end])


def test_frames_that_are_not_tcp_are_left_out_but_tell_the_time():
    batch = make_batch(from_script(HANDSHAKE))
    batch.frames["kind"][1:] = 2
    tracker = Tracker()
    list(tracker.update(batch))
    assert (tracker.n_segments, tracker.last_ts_ns) == (1, batch.frames["ts_ns"][-1])


def test_connections_are_numbered_on_from_where_the_run_stands():
    _, rows, tracker = follow(from_script(HANDSHAKE), first_conn=7, capture_idx=3)
    assert [(r["conn"], r["capture_idx"]) for r in rows] == [(7, 3)]
    assert tracker.n_connections == 8


def test_the_flags_of_the_builder_are_those_of_the_wire():
    assert (FIN, SYN, RST, PSH, ACK) == (1, 2, 4, 8, 16)


# What acknowledgements say of bytes that the capture lacks.


def test_the_next_request_says_that_the_answer_before_it_was_read():
    """One segment is missing from the capture: it is given up at once, before the request that acknowledges it."""
    script = (
        HANDSHAKE + "+0 > P. 1:6(5)\n+0.01 < P. 1:101(100) lost\n+0.0001 > P. 6:11(5) ack 101\n+0.01 < P. 101:111(10)"
    )
    events, (row,), _ = follow(from_script(script))
    kinds = [StreamEventKind(e["kind"]).name for e in events if e["data_len"]]
    assert kinds == ["SEGMENT", "HOLE", "SEGMENT", "SEGMENT"]
    assert (row["n_holes"], row["hole_bytes"]) == (1, 100)


def test_bytes_that_nobody_acknowledged_were_not_lost_by_the_capture():
    script = (
        HANDSHAKE + "+0 > P. 1:6(5)\n+0.01 < P. 1:11(10)\n+0 > . ack 11\n+0.01 < P. 21:31(10)\n+0 > . ack 11\n+1 < R"
    )
    events, (row,), _ = follow(from_script(script))
    assert any(e["kind"] == StreamEventKind.HOLE for e in events)
    assert (row["n_holes"], row["hole_bytes"]) == (0, 0)


def test_the_challenge_of_an_old_connection_is_no_acknowledgement():
    """RFC 5961 section 4: a SYN meets a connection that still stands; what its other end says acknowledges nothing."""
    script = "+0 > S\n+0.001 < . 1:1(0) ack 54000000\n+0 > R 54000000:54000000(0)\n"
    _, rows, _ = follow(from_script(script))
    assert all((row["n_holes"], row["hole_bytes"]) == (0, 0) for row in rows)
    assert fates(script)[1] == "OUTSIDE_WINDOW"


def test_a_keep_alive_probe_seen_first_leaves_no_hole_of_one_byte():
    script = "+0 > . 99:99(0) ack 500\n+0.001 < . 500:500(0) ack 100\n+1 > P. 100:110(10) ack 500\n+0.01 < . ack 110"
    _, (row,), _ = follow(from_script(script))
    assert (row["n_holes"], row["orig_bytes"]) == (0, 10)
