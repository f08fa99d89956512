"""What must hold for every capture: the same conversation gives the same tables however it was captured.

Conversations come from `tests.strategies`, so what has to be found is known; each property renders the same one in two
ways and compares the tables, or compares a table with what was meant.
"""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pcapdiag.analysis.build import build_analysis, read_shard
from pcapdiag.base.codes import Direction, Fate, Method, Outcome
from pcapdiag.engine.capture.series import group_captures
from pcapdiag.engine.tcp.tracker import Shard
from tests.lab_truth import run_report
from tests.scenario import Form, parse, write_capture
from tests.strategies import FIN, LOST, Ending, conversations, facts_of, piece_sizes, render

fewer = settings(max_examples=settings().max_examples // 2)
"""Each example runs the whole engine, most of them twice."""

FORM = Form()
MOD = 2**32

OF_ORIG = {"orig_isn", "resp_max_ack", "request_seq", "request_end_seq"}
OF_RESP = {"resp_isn", "orig_max_ack", "request_ack", "response_seq"}
TEXTS = ("target", "host", "request_id")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("properties")


def analyse(folder, data, name="x.pcap", **options):
    path = folder / name
    path.write_bytes(data)
    return build_analysis(group_captures([str(path)]), **options)


def tables(analysis, form=FORM):
    """Return connections and exchanges as plain rows; times, sequence numbers and addresses relative to `form`."""
    isns = (form.orig_isn, form.resp_isn)
    connections = [_row(analysis.connections, i, isns, form) for i in range(len(analysis.connections))]
    for row in connections:
        side = row["first_closer"]
        if side != Direction.NONE:
            for name, base in (("closing_seq", isns[side]), ("closing_ack", isns[1 - side])):
                if row[name] >= 0:
                    row[name] = (row[name] - base) % MOD
        for side in ("orig", "resp"):
            row[side] = (row.pop(f"{side}_hi"), row.pop(f"{side}_lo"), row[f"{side}_port"])
        row["server"] = analysis.texts.read(row.pop("server_offset"), row["server_len"])
    exchanges = [_row(analysis.exchanges, i, isns, form) for i in range(len(analysis.exchanges))]
    for row in exchanges:
        at = row.pop("text_offset")
        for name in TEXTS:
            row[name] = analysis.texts.read(at, row[f"{name}_len"]) if at >= 0 else b""
            at += row[f"{name}_len"] if at >= 0 else 0
    exchanges.sort(key=lambda row: (row["conn"], row["depth"]))
    return connections, exchanges


def _row(table, i, isns, form):
    row = {name: table[name][i].item() for name in table.schema.names}
    for name, value in row.items():
        if name.endswith("_ts_ns") and value >= 0:
            row[name] = value - form.start_ns
        elif name in OF_ORIG and value >= 0:
            row[name] = (value - isns[0]) % MOD
        elif name in OF_RESP and value >= 0:
            row[name] = (value - isns[1]) % MOD
    return row


def without(rows, *names):
    return [{k: v for k, v in row.items() if k not in names} for row in rows]


def told(exchanges):
    """Return what the exchanges say of the conversation itself, whatever it looked like on the wire."""
    return [
        (
            r["conn"],
            r["depth"],
            Method(r["method"]).name,
            r["target"].decode(),
            r["status_code"],
            Outcome(r["outcome"]).name,
        )
        for r in exchanges
    ]


def meant(drawn):
    """Return the same as it was meant; connections are numbered by their first frame."""
    order = sorted(range(len(drawn)), key=lambda i: drawn[i].start_ns)
    return [
        (conn, depth, f.method, f.target, f.status, "ANSWERED" if f.is_answered else "UNANSWERED")
        for conn, i in enumerate(order)
        for depth, f in enumerate(facts_of(drawn[i]))
    ]


@fewer
@given(conversations(), piece_sizes)
def test_every_exchange_is_found_as_it_was_meant(folder, drawn, sizes):
    connections, exchanges = tables(analyse(folder, write_capture(render(drawn, sizes=sizes))))
    assert told(exchanges) == meant(drawn)
    order = sorted(range(len(drawn)), key=lambda i: drawn[i].start_ns)
    facts = [f for i in order for f in facts_of(drawn[i])]
    assert [r["idle_before_ns"] for r in exchanges] == [f.idle_ns for f in facts]
    assert [r["request_bytes"] for r in exchanges] == [f.request_bytes for f in facts]
    assert [r["response_bytes"] for r in exchanges] == [f.response_bytes for f in facts]
    assert [r["n_unanswered"] for r in connections] == [int(drawn[i].ending in LOST) for i in order]


@fewer
@given(conversations(), piece_sizes, st.integers(0, MOD - 1), st.integers(0, MOD - 1))
def test_sequence_numbers_may_start_anywhere(folder, drawn, sizes, orig_isn, resp_isn):
    segments = render(drawn, sizes=sizes)
    shifted = replace(FORM, orig_isn=orig_isn, resp_isn=resp_isn)
    first = tables(analyse(folder, write_capture(segments)))
    assert tables(analyse(folder, write_capture(segments, shifted)), shifted) == first


@fewer
@given(conversations(endings=tuple(set(Ending) - {Ending.SILENCE})), piece_sizes, piece_sizes)
def test_payload_may_be_cut_anywhere(folder, drawn, sizes, others):
    """Frames are renumbered and counted anew; everything else stays."""
    # A FIN on the last data has the sequence number of the segment that it came on.
    by_count = ("first_frame", "last_frame", "closing_frame", "closing_seq", "orig_frames", "resp_frames", "history")
    by_frame = ("request_frame", "response_frame")
    one, two = (tables(analyse(folder, write_capture(render(drawn, sizes=s)))) for s in (sizes, others))
    assert without(one[0], *by_count) == without(two[0], *by_count)
    assert without(one[1], *by_frame) == without(two[1], *by_frame)


@fewer
@given(conversations(), piece_sizes)
def test_which_address_is_the_greater_says_nothing(folder, drawn, sizes):
    segments = render(drawn, sizes=sizes)
    one = tables(analyse(folder, write_capture(segments)))
    two = tables(analyse(folder, write_capture(segments, orig=FORM.resp, resp=FORM.orig)))
    assert without(one[0], "orig", "resp") == without(two[0], "orig", "resp")
    assert one[1] == two[1]


@fewer
@given(conversations(), piece_sizes, st.integers(0, 4_000_000_000))
def test_the_hour_says_nothing(folder, drawn, sizes, start_s):
    segments = render(drawn, sizes=sizes)
    moved = replace(FORM, start_ns=start_s * 10**9)
    assert tables(analyse(folder, write_capture(segments, moved)), moved) == tables(
        analyse(folder, write_capture(segments))
    )


@fewer
@given(
    conversations(),
    piece_sizes,
    st.sampled_from(["pcap", "pcap-ns", "pcapng", "pcapng-us"]),
    st.sampled_from("<>"),
    st.sampled_from(["ethernet", "vlan", "qinq", "sll", "sll2", "raw", "null"]),
)
def test_every_container_and_link_type_gives_the_same_tables(folder, drawn, sizes, container, order, link):
    segments = render(drawn, sizes=sizes)
    # A cooked capture says which packets the capturing machine sent; the others cannot.
    one = tables(analyse(folder, write_capture(segments)))
    two = tables(analyse(folder, write_capture(segments, container=container, order=order, link=link)))
    assert without(one[0], "orig_local") == without(two[0], "orig_local")
    assert one[1] == two[1]


@fewer
@given(conversations(), piece_sizes)
def test_ipv6_gives_the_same_tables(folder, drawn, sizes):
    segments = render(drawn, sizes=sizes)
    one = tables(analyse(folder, write_capture(segments)))
    two = tables(analyse(folder, write_capture(segments, orig="2001:db8::64", resp="2001:db8::1")))
    assert without(one[0], "orig", "resp") == without(two[0], "orig", "resp")
    assert one[1] == two[1]


@fewer
@given(conversations(), piece_sizes, st.randoms(use_true_random=False))
def test_a_packet_captured_twice_changes_no_exchange(folder, drawn, sizes, rng):
    segments = render(drawn, sizes=sizes)
    doubled = [s for segment in segments for s in [segment] * (1 + (rng.random() < 0.3))]
    _, exchanges = tables(analyse(folder, write_capture(doubled)))
    assert told(exchanges) == meant(drawn)


@fewer
@given(
    conversations(endings=(Ending.OPEN, Ending.RESP_CLOSES, Ending.ORIG_CLOSES)),
    piece_sizes,
    st.randoms(use_true_random=False),
)
def test_reordered_payload_changes_no_exchange(folder, drawn, sizes, rng):
    """The pieces of one message arrive in any order."""
    segments = render(drawn, sizes=sizes)
    shuffled, i = [], 0
    while i < len(segments):
        j = i
        while j < len(segments) and _is_same_message(segments[i], segments[j]):
            j += 1
        run = segments[i : max(j, i + 1)]
        rng.shuffle(run)
        shuffled += run
        i += len(run)
    _, exchanges = tables(analyse(folder, write_capture(shuffled)))
    assert told(exchanges) == meant(drawn)


def _is_same_message(a, b):
    return bool(a.payload and b.payload) and (a.conn, a.dir, a.ts_ns) == (b.conn, b.dir, b.ts_ns)


@fewer
@given(conversations(), piece_sizes, st.data())
def test_a_segment_that_is_missing_is_a_hole_and_never_other_bytes(folder, drawn, sizes, data):
    segments = render(drawn, sizes=sizes)
    with_payload = [i for i, s in enumerate(segments) if s.payload]
    missing = data.draw(st.sampled_from(with_payload))
    connections, exchanges = tables(analyse(folder, write_capture(segments[:missing] + segments[missing + 1 :])))
    targets = {f.target.encode() for c in drawn for f in facts_of(c)}
    assert {r["target"] for r in exchanges} <= targets | {b""}
    # A FIN that went missing cannot be told from a byte.
    assert sum(r["hole_bytes"] for r in connections) <= segments[missing].end - segments[missing].seq
    others = [row for row in meant(drawn) if not _is_of(row, segments[missing].conn, drawn)]
    assert [row for row in told(exchanges) if not _is_of(row, segments[missing].conn, drawn)] == others


def _is_of(row, conn, drawn):
    order = sorted(range(len(drawn)), key=lambda i: drawn[i].start_ns)
    return order[row[0]] == conn


@fewer
@given(conversations(endings=(Ending.RESP_CLOSES,)), piece_sizes)
def test_a_fin_on_the_last_data_is_a_fin_behind_it(folder, drawn, sizes):
    """The closing is the same, and so is every exchange."""
    apart = render([replace(c, lost=replace(c.lost, idle_ns=0)) for c in drawn], sizes=sizes)
    joined = []
    for segment in apart:
        if segment.flags & FIN and segment.dir == 1:
            last = max(i for i, s in enumerate(joined) if s.conn == segment.conn and s.dir == 1)
            joined[last] = replace(joined[last], flags=joined[last].flags | FIN)
        else:
            joined.append(segment)
    one, two = (tables(analyse(folder, write_capture(s))) for s in (apart, joined))
    kept = (
        "first_closer",
        "closing_kind",
        "closing_open_exchange",
        "resp_fin",
        "orig_fin",
        "n_unanswered",
        "orig_bytes",
    )
    assert [[r[k] for k in kept] for r in one[0]] == [[r[k] for k in kept] for r in two[0]]
    assert told(one[1]) == told(two[1])


@pytest.mark.parametrize("cut", range(24, 98))
def test_nothing_inside_a_first_record_that_was_cut_is_a_record(folder, cut):
    """Its bytes hold small numbers in plenty, and four of them look like a record of 1970 that ends the file."""
    whole = write_capture(parse("+0.000335 > S"))
    assert len(whole) == 98
    assert analyse(folder, whole[:cut], "cut.pcap").n_frames == 0


@fewer
@given(conversations(max_connections=2), piece_sizes, st.sampled_from(["pcap", "pcapng"]), st.data())
def test_a_truncated_file_gives_the_tables_of_its_whole_records(folder, drawn, sizes, container, data):
    segments = render(drawn, sizes=sizes)
    whole = write_capture(segments, container=container)
    head = len(write_capture([], container=container))
    cut = data.draw(st.integers(head, len(whole)))
    n_whole = max(n for n in range(len(segments) + 1) if len(write_capture(segments[:n], container=container)) <= cut)
    one = analyse(folder, whole[:cut], "cut.pcap")
    two = analyse(folder, write_capture(segments[:n_whole], container=container), "prefix.pcap")
    assert one.n_frames == n_whole
    assert tables(one) == tables(two)
    is_clean_cut = len(write_capture(segments[:n_whole], container=container)) == cut
    assert len(one.captures[0].notes) - len(two.captures[0].notes) == (0 if is_clean_cut else 1)


@fewer
@given(conversations(), piece_sizes, st.randoms(use_true_random=False))
def test_every_frame_has_exactly_one_fate(folder, drawn, sizes, rng):
    """Repeated and reordered as they may be."""
    segments = [s for segment in render(drawn, sizes=sizes) for s in [segment] * (1 + (rng.random() < 0.2))]
    for _ in range(3):
        i = rng.randrange(len(segments) - 1)
        segments[i], segments[i + 1] = segments[i + 1], segments[i]
    seen = []
    analysis = analyse(folder, write_capture(segments), segment_sink=lambda table: seen.append(table.rows.copy()))
    rows = np.concatenate(seen)
    assert sorted(rows["frame"].tolist()) == list(range(len(segments)))
    assert np.isin(rows["fate"], [int(fate) for fate in Fate]).all()
    assert analysis.n_frames == len(segments)
    counted = analysis.connections["orig_frames"].sum() + analysis.connections["resp_frames"].sum()
    assert int(counted) == int((rows["fate"] != Fate.DUPLICATE_CAPTURE).sum())


@fewer
@given(st.integers(1, 10**14))
def test_a_gap_of_any_length_survives_to_json(folder, gap_ns):
    seconds, rest = divmod(gap_ns, 10**9)
    script = f"""
        +0 > S
        +0.01 < S.
        +0.000001 > .
        +0 > P. "GET /a HTTP/1.1\\r\\n\\r\\n"
        +0.01 < P. "HTTP/1.1 204 X\\r\\n\\r\\n"
        +{seconds}.{rest:09d} > P. "GET /b HTTP/1.1\\r\\n\\r\\n"
        +0.01 < R. win 0
    """
    path = folder / "gap.pcap"
    path.write_bytes(write_capture(parse(script), container="pcap-ns"))
    report = run_report([path])
    occurrences = [o for f in report["findings"] for o in f["occurrences"] if o["target"] == "/b"]
    assert [o["idle_before_ns"] for o in occurrences] == [gap_ns]
    assert json.loads(json.dumps(report)) == report


HOSTILE = st.text(
    st.sampled_from("\x1b\x07\x08\x7f\x9b[]31m;</script>&\"'`|*_\u202e\u2066\r\x00"), min_size=1, max_size=30
)


@fewer
@given(HOSTILE)
@pytest.mark.parametrize("form", ["terminal", "markdown", "json"])
def test_hostile_text_is_never_printed_raw(folder, form, text):
    from click.testing import CliRunner

    from pcapdiag.cli import main

    target = "/" + text.replace("\r", "").replace(" ", "")
    request = f"GET {target} HTTP/1.1\r\nHost: {text}\r\n\r\n".encode("utf-8", "surrogatepass")
    segments = parse("+0 > S\n+0.01 < S.\n+0.0001 > .")
    exchange = parse('+0 > P. "GET /a HTTP/1.1\\r\\n\\r\\n"\n+0.01 < P. "HTTP/1.1 204 X\\r\\n\\r\\n"')
    base = 20_000_000
    segments += [replace(s, ts_ns=base + s.ts_ns, seq=1, ack=1 + 19 * s.dir) for s in exchange]
    lost = replace(exchange[0], ts_ns=base + 4 * 10**9, seq=20, ack=19, payload=request)
    reset = replace(exchange[1], ts_ns=base + 4 * 10**9 + 10**7, seq=19, ack=-1, flags=4, payload=b"")
    path = folder / "hostile.pcap"
    path.write_bytes(write_capture([*segments, lost, reset]))
    result = CliRunner().invoke(main, ["analyze", str(path), "--format", form, "--fail-on", "never"], color=False)
    assert result.exit_code == 0, result.output
    control = {chr(c) for c in (*range(32), 127, *range(128, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A))}
    assert not set(result.stdout) & (control - {"\n"})


@fewer
@given(
    st.binary(max_size=400),
    st.sampled_from([b"", b"\xd4\xc3\xb2\xa1\x02\0\x04\0" + bytes(8) + b"\xff\xff\0\0\1\0\0\0"]),
)
def test_any_bytes_are_read_or_refused_and_never_raise(folder, body, head):
    from pcapdiag.base.errors import PcapdiagError

    if head:
        assert analyse(folder, head + body, "bytes.bin").n_frames >= 0
        return
    try:
        analyse(folder, body, "bytes.bin")
    except PcapdiagError as error:
        message = str(error)
        assert "bytes.bin" in message


@fewer
@given(conversations(max_connections=2), piece_sizes, st.integers(1, 400), st.integers(0, 2**32))
def test_damage_inside_a_file_never_raises(folder, drawn, sizes, n_byte, seed):
    data = bytearray(write_capture(render(drawn, sizes=sizes)))
    rng = random.Random(seed)
    for _ in range(n_byte):
        data[rng.randrange(24, len(data))] = rng.randrange(256)
    analysis = analyse(folder, bytes(data), "damaged.pcap")
    kinds = np.asarray(analysis.exchanges["outcome"])
    assert set(kinds.tolist()) <= {int(o) for o in Outcome}


@fewer
@given(conversations(max_connections=6), piece_sizes, st.integers(2, 4), st.integers(0, 2**31 - 1))
def test_several_processes_find_together_what_one_finds(folder, drawn, sizes, n_shards, seed):
    data = write_capture(render(drawn, sizes=sizes))
    whole = tables(analyse(folder, data))

    def captures():
        return group_captures([str(folder / "x.pcap")])

    shards = [read_shard(captures(), Shard(number, n_shards, seed)) for number in range(n_shards)]
    assert tables(build_analysis(captures(), shards=shards)) == whole
