"""The TCP tracker's kernels against their plain twin, on conversations and on segments that make no sense."""

from dataclasses import replace

from hypothesis import example, given
from hypothesis import strategies as st

from pcapdiag.base.codes import Fate, StreamEventKind
from pcapdiag.engine.tcp.tracker import Tracker
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
    Event,
    Segment,
    from_script,
    make_batch,
    track,
)

STEPS_NS = (0, 1000, MS, 3 * MS, 6 * MS, 1500 * MS)


def run(segments, *, sizes=(10**6,), all_segments=True, **options):
    """Return the events and rows of the tracker, in the twin's terms, fed in batches of the given sizes."""
    tracker = Tracker(all_segments=all_segments, **options)
    events, rows = [], []

    def take(tracked):
        for e in tracked.events:
            kind = StreamEventKind(int(e["kind"]))
            if kind in (StreamEventKind.OPEN, StreamEventKind.END):
                continue
            source = tracked.piece_bytes if e["source"] else tracked.buffer
            at, cap = int(e["data_offset"]), int(e["data_cap"])
            data = source[at : at + cap].tobytes() if cap else b""
            fate = int(e["fate"]) if kind == StreamEventKind.SEGMENT else -1
            length = int(e["data_len"])
            offset = seq = -1
            if length:
                offset = int(e["stream_offset"])
                # The bytes that a segment delivers are its last ones.
                skip = int(e["payload_len"]) - length + bool(e["flags"] & SYN) if kind.name == "SEGMENT" else 0
                seq = (int(e["seq"]) + skip) % MOD
            told = (int(e["conn"]), int(e["dir"]), int(e["frame"]), fate, max(0, offset), length, data)
            events.append(Event(kind.name, *told, int(e["ts_ns"]), seq))
        rows.extend(tracked.conn_rows.copy())

    first = turn = 0
    while first < len(segments):
        size = sizes[turn % len(sizes)]
        for tracked in tracker.update(make_batch(segments[first : first + size], first)):
            take(tracked)
        first += size
        turn += 1
    for tracked in tracker.finish():
        take(tracked)
    return events, sorted(rows, key=lambda row: row["conn"]), tracker


def by_connection(events):
    """Return the events of each connection, in order; connections end in the order of their slots."""
    grouped = {}
    for e in events:
        grouped.setdefault(e.conn, []).append(e)
    return grouped


def compare(segments, sizes=(10**6,)):
    want_events, want_rows = track(segments)
    events, rows, tracker = run(segments, sizes=sizes)
    assert by_connection(events) == by_connection(want_events)
    assert [{name: row[name].item() for name in want} for row, want in zip(rows, want_rows, strict=True)] == want_rows
    fates = [e.fate for e in want_events if e.kind == "SEGMENT"]
    assert tracker.n_segments == len(segments) == len(fates)
    assert tracker.n_duplicates == fates.count(Fate.DUPLICATE_CAPTURE)
    assert tracker.n_outside == fates.count(Fate.OUTSIDE_WINDOW)
    assert tracker.n_holes == sum(row["n_holes"] for row in want_rows)
    assert tracker.n_connections == len(want_rows)
    return want_events, want_rows


def content(side, start, end):
    """Return stream bytes, which depend only on their place: a retransmission repeats them."""
    return bytes((7 * at + 101 * side) % 251 for at in range(start, end))


class Talk:
    """Two endpoints that send, lose, repeat, acknowledge and close as they are told; only what is captured is kept."""

    def __init__(self, isns, port, snaplen):
        self.isns, self.snaplen = isns, snaplen
        self.ends = ((*CLIENT[:2], port), SERVER)
        self.sent = [0, 0]
        self.window = [1000, 1000]
        self.fin = [False, False]
        self.last = None

    def segment(self, now_ns, side, flags, start, end, *, acked=None, ip_id=0):
        acked = self.sent[1 - side] + self.fin[1 - side] if acked is None else acked
        base = 0 if flags & SYN else 1
        self.last = Segment(
            now_ns,
            self.ends[side],
            self.ends[1 - side],
            flags,
            (self.isns[side] + base + start) % MOD,
            (self.isns[1 - side] + 1 + acked) % MOD if flags & ACK else -1,
            content(side, start, end),
            cap=self.snaplen,
            window=self.window[side],
            ip_id=ip_id,
        )
        return self.last

    def act(self, now_ns, side, verb, amount, place):
        """Return the segment that is captured, if any."""
        sent = self.sent[side]
        if verb == "syn":
            return self.segment(now_ns, side, SYN | (ACK if side else 0), 0, 0, acked=0)
        if verb == "new port":
            self.isns = tuple((isn + 100_003 * (1 + amount)) % MOD for isn in self.isns)
            self.sent, self.fin = [0, 0], [False, False]
            return self.segment(now_ns, side, SYN, 0, 0)
        if verb in ("send", "lose", "send and close"):
            self.sent[side] += amount
            if verb == "lose":
                return None
            close = FIN if verb == "send and close" else 0
            segment = self.segment(now_ns, side, ACK | PSH | close, sent, sent + amount)
            self.fin[side] |= bool(close)
            return segment
        if verb == "repeat":
            start = place % (sent + 1)
            return self.segment(now_ns, side, ACK, start, min(sent, start + amount), ip_id=place % 3)
        if verb == "acknowledge":
            return self.segment(now_ns, side, ACK, sent, sent)
        if verb == "acknowledge part":
            return self.segment(now_ns, side, ACK, sent, sent, acked=place % (self.sent[1 - side] + 1))
        if verb == "probe":
            return self.segment(now_ns, side, ACK, max(0, sent - 1), max(0, sent - 1) + amount % 2)
        if verb == "window":
            self.window[side] = 1000 if amount % 2 else 0
            return self.segment(now_ns, side, ACK, sent, sent)
        if verb == "close":
            self.fin[side] = True
            return self.segment(now_ns, side, ACK | FIN, sent, sent)
        if verb == "reset":
            return self.segment(now_ns, side, RST | (ACK if amount % 2 else 0), sent, sent)
        if verb == "far":
            return self.segment(now_ns, side, ACK, sent + (1 << 27), sent + (1 << 27) + amount % 3)
        return replace(self.last, ts_ns=now_ns) if self.last else None


VERBS = ("send",) * 5 + ("lose",) * 2 + ("repeat",) * 4 + ("acknowledge",) * 4 + ("acknowledge part",) * 2
VERBS += ("probe", "window", "close", "send and close", "reset", "far", "again", "again", "syn", "new port")
ACTIONS = st.tuples(
    st.sampled_from(STEPS_NS),
    st.integers(0, 1),
    st.integers(0, 1),
    st.sampled_from(VERBS),
    st.integers(1, 40),
    st.integers(0, 200),
)
ISNS = st.one_of(st.integers(0, MOD - 1), st.integers(MOD - 200, MOD - 1))


def play(isns, snaplen, actions, *, is_seen_from_start):
    """Return what is captured when two connections do as told, in turns."""
    talks = [Talk(isns, 40000 + n, snaplen) for n in range(2)]
    now_ns, segments = 10**9, []
    if is_seen_from_start:
        segments += [talk.act(now_ns + n, side, "syn", 0, 0) for talk in talks for n, side in enumerate((0, 1))]
    for step_ns, which, side, verb, amount, place in actions:
        now_ns += step_ns
        segment = talks[which].act(now_ns, side, verb, amount, place)
        if segment is not None:
            segments.append(segment)
    return segments


TALKS = st.builds(
    lambda isns, snaplen, actions, start: play(isns, snaplen, actions, is_seen_from_start=start),
    st.tuples(ISNS, ISNS),
    st.sampled_from([-1, -1, 0, 9, 30]),
    st.lists(ACTIONS, max_size=40),
    st.booleans(),
)
BATCHES = st.lists(st.integers(1, 30), min_size=1, max_size=4)


@given(TALKS, BATCHES)
def test_conversations_are_tracked_as_the_twin_does(segments, sizes):
    compare(segments, sizes)


@st.composite
def nonsense(draw):
    """Draw segments whose flags, numbers and times have nothing to do with each other."""
    base = draw(st.sampled_from([5, MOD - 20, MOD // 2]))
    numbers = st.integers(-3, 40)
    segments, now_ns = [], 10**9
    for _ in range(draw(st.integers(0, 25))):
        now_ns += draw(st.sampled_from((*STEPS_NS, -MS)))
        flags = draw(st.sampled_from([ACK, ACK, ACK, ACK | PSH, ACK | FIN, FIN, SYN, SYN | ACK, RST, RST | ACK, 0]))
        src, dst = draw(st.sampled_from([(CLIENT, SERVER), (SERVER, CLIENT)]))
        start = draw(numbers)
        payload = content(src is SERVER, start + 3, start + 3 + draw(st.sampled_from([0, 0, 1, 5, 17])))
        ack = (base + draw(numbers)) % MOD if flags & ACK else -1
        window = draw(st.sampled_from([0, 500, 500]))
        ip_id = draw(st.sampled_from([0, 0, 7, 8]))
        segments.append(
            Segment(now_ns, src, dst, flags, (base + start) % MOD, ack, payload, window=window, ip_id=ip_id)
        )
    return segments


@given(nonsense(), BATCHES)
@example([], [1])
def test_segments_without_sense_get_the_twins_fates(segments, sizes):
    compare(segments, sizes)


@given(TALKS, BATCHES)
def test_without_the_originators_bare_acknowledgements_the_rest_is_the_same(segments, sizes):
    every, rows, _ = run(segments, sizes=sizes)
    fewer, same_rows, _ = run(segments, sizes=sizes, all_segments=False)
    assert [row.item() for row in rows] == [row.item() for row in same_rows]
    kept = [e for e in every if e in set(fewer)]
    assert kept == fewer
    left_out = [e for e in every if e not in set(fewer)]
    assert all(e.kind == "SEGMENT" and e.dir == 0 and e.length == 0 for e in left_out)
    assert all(segments[e.frame].flags == ACK and not segments[e.frame].payload for e in left_out)
    assert all(segments[e.frame].window for e in left_out)


def test_the_originators_window_of_zero_is_told_and_its_end():
    script = "+0 > S\n+0 < S.\n+0 > .\n+1 > . win 0\n+1 > . win 0\n+1 > .\n+1 > ."
    events, _, _ = run(from_script(script), all_segments=False)
    assert [e.frame for e in events if e.kind == "SEGMENT"] == [0, 1, 3, 4, 5]


@given(TALKS)
def test_every_stream_is_what_was_sent_or_a_hole(segments):
    """What is delivered is contiguous, and every captured byte is the one that was sent there."""
    events, rows, _ = run(segments)
    at = {}
    for e in events:
        if e.length == 0:
            continue
        flow = e.conn, e.dir
        assert e.offset == at.get(flow, 0)
        at[flow] = e.offset + e.length
        assert len(e.data) <= e.length
        assert e.kind != "HOLE" or e.data == b""
    for row in rows:
        assert at.get((row["conn"], 0), 0) <= row["orig_bytes"]
        assert at.get((row["conn"], 1), 0) <= row["resp_bytes"]
