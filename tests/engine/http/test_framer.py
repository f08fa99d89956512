"""What the framer makes of streams: exchanges, gaps, late answers, turns; and how its memory stays bounded."""

from dataclasses import replace

import pytest

from pcapdiag.base.codes import ExchangeFlag, Fate, Framing, Key, Method, Outcome, Protocol
from pcapdiag.base.columns import EXCHANGES, KEY_SEGMENTS
from pcapdiag.base.tables import ByteStore, RowStore
from pcapdiag.engine.http.framer import Framer
from pcapdiag.engine.http.kernels.http_state import MAX_OPEN_PER_CONNECTION
from pcapdiag.engine.tcp.tracker import Tracker
from tests.engine.tcp.kernels.plain_tcp import ACK, CLIENT, SERVER, Segment, from_script, make_batch

MS, S = 10**6, 10**9
OPEN = "+0 > S\n+0.02 < S.\n+0.0001 > .\n"
GET = '"GET /a HTTP/1.1\\r\\nHost: h\\r\\n\\r\\n"'
REFUSAL = '"HTTP/1.1 408 Request Timeout\\r\\nConnection: close\\r\\nContent-Length: 0\\r\\n\\r\\n"'
OK = '"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok"'
ANSWERED = OPEN + f"+0 > P. {GET}\n+0.1 < P. {OK}\n+0 > .\n"
HANDSHAKE_RECORD = '"\\x16\\x03\\x03\\x00\\x05hello"'
DATA_RECORD = '"\\x17\\x03\\x03\\x00\\x30' + "d" * 48 + '"'
ALERT_RECORD = '"\\x17\\x03\\x03\\x00\\x13' + "a" * 19 + '"'
TLS = OPEN + f"+0 > P. {HANDSHAKE_RECORD}\n+0.01 < P. {HANDSHAKE_RECORD}\n"
TURN = f"+0.01 > P. {DATA_RECORD}\n+0.01 < P. {DATA_RECORD}\n"


def frame(*batches):
    """Return (exchanges, connection rows, keys by (conn, depth)); exchanges have their texts."""
    exchanges, keys, texts = RowStore(EXCHANGES), RowStore(KEY_SEGMENTS), ByteStore()
    tracker, framer = Tracker(), Framer(exchanges, keys, texts)
    rows, first = [], 0

    def take(tracked):
        framer.update(tracked)
        rows.extend({n: r[n].item() for n in r.dtype.names} for r in tracked.conn_rows)

    for batch in batches:
        for tracked in tracker.update(make_batch(batch, first)):
            take(tracked)
        first += len(batch)
    for tracked in tracker.finish():
        take(tracked)
    found = []
    for row in exchanges.table().rows:
        told = {n: row[n].item() for n in EXCHANGES.names}
        at = told["text_offset"]
        for name in ("target", "host", "request_id"):
            told[name] = texts.read(at, told[f"{name}_len"])
            at += told[f"{name}_len"]
        found.append(told)
    found_keys = {}
    for row in keys.table().rows:
        found_keys.setdefault((int(row["conn"]), int(row["depth"])), {})[Key(int(row["key"]))] = int(row["frame"])
    for row in rows:
        row["server"] = texts.read(row["server_offset"], row["server_len"])
    assert framer.n_exchanges == len(found)
    assert framer.n_unanswered == sum(x["outcome"] == Outcome.UNANSWERED for x in found)
    return sorted(found, key=lambda x: (x["conn"], x["depth"])), sorted(rows, key=lambda r: r["conn"]), found_keys


def exchanges_of(script):
    return frame(from_script(script))[0]


def only(script):
    (exchange,) = exchanges_of(script)
    return exchange


def outcomes(script):
    return [Outcome(x["outcome"]).name for x in exchanges_of(script)]


# Exchanges.


def test_a_request_and_its_response_are_one_exchange():
    x = only(ANSWERED)
    assert (x["request_frame"], x["response_frame"], x["depth"], x["conn"]) == (3, 4, 0, 0)
    assert (x["method"], x["target"], x["host"], x["status_code"]) == (Method.GET, b"/a", b"h", 200)
    assert (x["outcome"], x["protocol"]) == (Outcome.ANSWERED, Protocol.HTTP1)
    assert (x["request_bytes"], x["response_bytes"]) == (28, 40)
    assert (x["first_byte_ns"], x["duration_ns"], x["idle_before_ns"]) == (100 * MS, 100 * MS, -1)
    assert (x["request_seq"], x["request_end_seq"], x["request_ack"], x["response_seq"]) == (1001, 1029, 5001, 5001)
    assert (x["request_framing"], x["response_framing"]) == (Framing.NO_CONTENT, Framing.CONTENT_LENGTH)
    assert x["flags"] == ExchangeFlag.ACKNOWLEDGED


def test_the_first_byte_time_begins_with_the_requests_last_byte():
    post = '"POST / HTTP/1.1\\r\\nContent-Length: 4\\r\\n\\r\\n"'
    x = only(OPEN + f'+0 > P. {post}\n+3 > P. "body"\n+0.5 < P. {OK}')
    assert (x["first_byte_ns"], x["duration_ns"]) == (500 * MS, 3500 * MS)


def test_an_interim_response_is_no_answer_and_counts_its_bytes():
    interim = '"HTTP/1.1 100 Continue\\r\\n\\r\\n"'
    x = only(OPEN + f"+0 > P. {GET}\n+0.1 < P. {interim}\n+0.1 < P. {OK}")
    assert (x["status_code"], x["response_frame"], x["first_byte_ns"]) == (200, 5, 200 * MS)
    assert x["response_bytes"] == 25 + 40
    assert x["flags"] & ExchangeFlag.INTERIM
    assert outcomes(OPEN + f"+0 > P. {GET}\n+0.1 < P. {interim}\n+1 < F.") == ["UNANSWERED"]


def test_a_response_that_breaks_off_is_truncated_and_pending_if_the_capture_ends():
    part = OPEN + f'+0 > P. {GET}\n+0.1 < P. "HTTP/1.1 200 OK\\r\\nContent-Length: 9\\r\\n\\r\\nok"\n'
    assert outcomes(part + "+1 < F.") == ["TRUNCATED"]
    assert outcomes(part + "+1 < R.") == ["TRUNCATED"]
    assert outcomes(part) == ["PENDING"]


def test_a_response_until_close_ends_with_fin_and_is_cut_by_rst():
    part = OPEN + f'+0 > P. {GET}\n+0.1 < P. "HTTP/1.0 200 OK\\r\\n\\r\\nall of it"\n'
    assert outcomes(part + "+1 < F.") == ["ANSWERED"]
    assert outcomes(part + "+1 < F.\n+0.1 < R") == ["ANSWERED"]
    assert outcomes(part + "+1 < R.") == ["TRUNCATED"]
    assert outcomes(part) == ["PENDING"]


def test_a_second_response_has_no_request():
    assert outcomes(ANSWERED + f"+1 < P. {OK}\n+0 > .") == ["ANSWERED", "RESPONSE_ONLY"]


def test_pipelined_requests_are_answered_in_order_and_have_no_gap():
    found = exchanges_of(OPEN + f"+0 > P. {GET}\n+0.01 > P. {GET}\n+0.1 < P. {OK}\n+0.1 < P. {OK}\n+0 > .")
    assert [x["first_byte_ns"] for x in found] == [110 * MS, 200 * MS]
    assert [bool(x["flags"] & ExchangeFlag.PIPELINED) for x in found] == [False, True]
    assert found[1]["idle_before_ns"] == -1


def test_more_requests_than_may_be_open_are_left_out():
    request = "GET /a HTTP/1.1\\r\\n\\r\\n"
    script = OPEN + f'+0 > P. "{request * (MAX_OPEN_PER_CONNECTION + 9)}"\n+1 < R.'
    found = exchanges_of(script)
    assert len(found) == MAX_OPEN_PER_CONNECTION
    assert {x["outcome"] for x in found} == {Outcome.UNANSWERED}


def test_thousands_of_responses_to_nothing_in_one_segment_stay_within_the_output():
    response = b"HTTP/1.1 204 X\r\n\r\n"
    base = Segment(0, SERVER, CLIENT, ACK, 1, 1, response * 3600)
    segments = [Segment(i, SERVER, CLIENT, ACK, 1 + i * len(base.payload), 1, base.payload) for i in range(80)]
    found, (row,), _ = frame(segments)
    assert {x["outcome"] for x in found} == {Outcome.RESPONSE_ONLY}
    assert len(found) == row["n_exchanges"] == 80 * MAX_OPEN_PER_CONNECTION


def test_an_early_response_is_marked_and_the_request_still_counts():
    post = '"POST / HTTP/1.1\\r\\nContent-Length: 4\\r\\n\\r\\n"'
    x = only(OPEN + f'+0 > P. {post}\n+0.1 < P. {OK}\n+0.1 > P. "body"')
    assert x["flags"] & ExchangeFlag.EARLY_RESPONSE
    assert not x["flags"] & ExchangeFlag.REQUEST_OPEN
    assert x["request_bytes"] == 42


def test_a_request_that_never_ended_says_so_and_keeps_what_was_read():
    x = only(OPEN + '+0 > P. "GET /half HTTP/1.1\\r\\nHost: h\\r\\nX-"\n+1 < R.')
    assert x["flags"] & ExchangeFlag.REQUEST_OPEN
    assert (x["method"], x["target"], x["host"], x["request_framing"]) == (Method.GET, b"/half", b"h", Framing.UNKNOWN)


def test_an_upgrade_ends_http_on_the_connection():
    x = only(OPEN + f'+0 > P. {GET}\n+0.1 < P. "HTTP/1.1 101 X\\r\\n\\r\\n"\n+1 > P. "GET / HTTP/1.1"\n+9 < F.')
    assert x["flags"] & ExchangeFlag.UPGRADE
    assert (x["outcome"], x["protocol"]) == (Outcome.ANSWERED, Protocol.HTTP1)


def test_a_request_behind_an_upgrade_does_not_take_its_status():
    script = OPEN + f'+0 > P. {GET}\n+0 > P. {GET}\n+0.1 < P. "HTTP/1.1 101 X\\r\\n\\r\\n"\n+9 < F.'
    assert [x["status_code"] for x in exchanges_of(script)] == [101, -1]


def test_the_connection_says_who_serves_and_for_how_long():
    head = "HTTP/1.1 204 X\\r\\nServer: nginx/1.27\\r\\nKeep-Alive: timeout=65, max=99\\r\\n\\r\\n"
    _, (row,), _ = frame(from_script(OPEN + f'+0 > P. {GET}\n+0.1 < P. "{head}"'))
    assert (row["server"], row["keep_alive_s"], row["keep_alive_max"]) == (b"nginx/1.27", 65, 99)
    assert (row["n_exchanges"], row["n_unanswered"], row["protocol"]) == (1, 0, Protocol.HTTP1)


# Gaps.


def test_the_idle_gap_is_from_the_last_payload_to_the_next_request():
    assert exchanges_of(ANSWERED + f"+7 > P. {GET}")[1]["idle_before_ns"] == 7 * S


@pytest.mark.parametrize("probe", ["+3 > . 28:28(0)", "+3 > . 28:29(1)"])
def test_a_keep_alive_probe_does_not_end_an_idle_gap(probe):
    script = ANSWERED + f"{probe}\n+0.01 < . ack 29\n+4 > P. 29:57(28) ack 41 {GET}"
    x = exchanges_of(script)[1]
    assert x["idle_before_ns"] == 7010 * MS


def test_a_hole_does_not_end_an_idle_gap_later_than_it_was_acknowledged():
    script = OPEN + f"+0 > P. {GET}\n+0.1 < P. 1:41(40) lost\n+0 > . ack 41\n+7 > P. {GET}\n+0.1 < R."
    found = exchanges_of(script)
    assert [Outcome(x["outcome"]).name for x in found] == ["ANSWERED", "UNANSWERED"]
    assert found[0]["flags"] & ExchangeFlag.HOLE
    assert found[0]["duration_ns"] == 100 * MS
    assert found[1]["idle_before_ns"] == 7 * S


def test_of_an_answer_that_only_the_next_request_acknowledges_nobody_knows_when_it_came():
    lost = f"+0 > P. {GET}\n+0.1 < P. 1:41(40) lost\n+0 > . ack 41 lost\n"
    first, second = exchanges_of(OPEN + lost + f"+7 > P. ack 41 {GET}\n+0.1 < R.")
    assert first["flags"] & ExchangeFlag.HOLE
    assert second["idle_before_ns"] == -1
    third = exchanges_of(OPEN + lost + f"+7 > P. ack 41 {GET}\n+0.1 < P. {OK}\n+0 > .\n+3 > P. {GET}")[2]
    assert third["idle_before_ns"] == 3 * S


def test_of_an_answer_that_only_the_closing_acknowledges_nobody_knows_how_long_it_was_idle():
    lost = OPEN + f"+0 > P. {GET}\n+0.1 < P. 1:41(40) lost\n+0 > . ack 41 lost\n"
    assert frame(from_script(lost + "+5 > F. ack 41"))[1][0]["idle_at_close_ns"] == -1


@pytest.mark.parametrize(("n", "status"), [(11, -1), (12, 503), (30, 503), (33, 503), (34, 503), (60, 503)])
def test_the_status_is_read_as_soon_as_it_was_captured(n, status):
    """A snap length of 96 bytes leaves 30 of an answer over IPv4 with timestamps."""
    busy = '"HTTP/1.1 503 Service Unavailable\\r\\nContent-Length: 2\\r\\n\\r\\nno"'
    segments = from_script(OPEN + f"+0 > P. {GET}\n+0.1 < P. {busy}\n+0 > .")
    cut = [replace(s, cap=n) if s.payload.startswith(b"HTTP") else s for s in segments]
    (x,) = frame(cut)[0]
    assert (Outcome(x["outcome"]), x["status_code"]) == (Outcome.ANSWERED, status)


def test_what_is_cut_and_no_status_line_has_no_status():
    segments = from_script(OPEN + f'+0 > P. {GET}\n+0.1 < P. "HTTP/1.1 5x3 Service Unavailable\\r\\n\\r\\n"\n+0 > .')
    cut = [replace(s, cap=20) if s.payload.startswith(b"HTTP") else s for s in segments]
    (x,) = frame(cut)[0]
    assert x["status_code"] == -1


def test_a_capture_that_begins_in_the_middle_has_no_gap_before_its_first_request():
    x = only(f"+0 > P. {GET}\n+0.1 < P. {OK}")
    assert x["idle_before_ns"] == -1
    assert x["flags"] & ExchangeFlag.MID_STREAM


def test_the_gap_before_a_closing_counts_only_between_exchanges():
    def row_of(script):
        return frame(from_script(script))[1][0]

    assert row_of(ANSWERED + "+5 < F.")["idle_at_close_ns"] == 5 * S
    row = row_of(OPEN + f"+0 > P. {GET}\n+5 < F.")
    assert (row["idle_at_close_ns"], row["closing_open_exchange"]) == (-1, 1)
    announced = OK.replace("Content", "Connection: close\\r\\nContent")
    row = row_of(OPEN + f"+0 > P. {GET}\n+0.1 < P. {announced}\n+5 < F.")
    assert (row["idle_at_close_ns"], row["closing_open_exchange"]) == (-1, 0)


def test_a_clock_that_steps_back_gives_no_negative_time():
    segments = from_script(ANSWERED + f"+1 > P. {GET}\n+0.1 < P. {OK}", start_ns=100 * S)
    segments[4:] = [replace(s, ts_ns=s.ts_ns - 20 * MS - i * 2 * S) for i, s in enumerate(segments[4:])]
    for x in frame(segments)[0]:
        assert min(x["duration_ns"], x["first_byte_ns"]) >= 0
        assert x["idle_before_ns"] >= -1


# Late answers and acknowledgements.


def test_a_response_after_the_originator_closed_and_never_acknowledged_is_late():
    script = OPEN + f"+0 > P. {GET}\n+0.01 < .\n+60 > F.\n+1 < P. {OK}\n+0 > R"
    x = only(script)
    assert x["outcome"] == Outcome.UNANSWERED
    assert x["flags"] & ExchangeFlag.LATE_ANSWER
    assert x["status_code"] == 200


def test_a_half_closed_originator_that_acknowledges_is_answered():
    x = only(OPEN + f"+0 > P. {GET}\n+0.01 > F.\n+1 < P. {OK}\n+0 > .\n+0 < F.")
    assert x["outcome"] == Outcome.ANSWERED
    assert not x["flags"] & ExchangeFlag.LATE_ANSWER


def test_a_closing_that_acknowledges_the_response_took_it():
    assert outcomes(OPEN + f"+0 > P. {GET}\n+0.1 < P. {OK}\n+0 > F.") == ["ANSWERED"]
    assert outcomes(OPEN + f"+0 > P. {GET}\n+0.1 < P. {OK}\n+0 > R. ack 20") == ["ANSWERED"]


@pytest.mark.parametrize(
    ("ack", "flag"),
    [
        (29, ExchangeFlag.ACKNOWLEDGED),
        (28, ExchangeFlag.ACKNOWLEDGED_PART),
        (2, ExchangeFlag.ACKNOWLEDGED_PART),
        (1, ExchangeFlag(0)),
    ],
)
def test_the_responder_acknowledged_all_a_part_or_nothing(ack, flag):
    x = only(OPEN + f"+0 > P. {GET}\n+0.1 < F. ack {ack}")
    assert x["flags"] & (ExchangeFlag.ACKNOWLEDGED | ExchangeFlag.ACKNOWLEDGED_PART) == flag


def test_a_request_that_goes_on_after_its_acknowledgement_is_acknowledged_in_part():
    post = '"POST / HTTP/1.1\\r\\nContent-Length: 4\\r\\n\\r\\n"'
    _, _, keys = frame(from_script(OPEN + f'+0 > P. {post}\n+0.1 < .\n+0.1 > P. "body"\n+0 < R. ack 38'))
    x = only(OPEN + f'+0 > P. {post}\n+0.1 < .\n+0.1 > P. "body"\n+0 < R. ack 38')
    assert x["flags"] & ExchangeFlag.ACKNOWLEDGED_PART
    assert not x["flags"] & ExchangeFlag.ACKNOWLEDGED
    assert Key.ACK not in keys[0, 0]


def test_retransmissions_of_a_request_are_counted():
    again = f"+1 > P. 1:29(28) {GET}\n"
    script = OPEN + f"+0 > P. {GET}\n" + again * 3
    x = only(script)
    assert x["retransmissions"] == 3
    _, _, keys = frame(from_script(script))
    assert keys[0, 0] == {
        Key.SYN: 0,
        Key.SYN_ACK: 1,
        Key.REQUEST: 3,
        Key.RETRANSMISSION: 4,
        Key.LAST_RETRANSMISSION: 6,
    }


# Key segments.


def test_a_lost_request_keeps_the_segments_around_it():
    post = '"POST /b HTTP/1.1\\r\\nContent-Length: 4\\r\\n\\r\\n"'
    script = ANSWERED + f'+4 > P. {post}\n+0 > P. "body"\n+0.01 < F. ack 29\n+0 > F.\n+0.01 < R'
    found, _, keys = frame(from_script(script))
    assert [x["outcome"] for x in found] == [Outcome.ANSWERED, Outcome.UNANSWERED]
    assert keys == {
        (0, 1): {
            Key.SYN: 0,
            Key.SYN_ACK: 1,
            Key.RESPONSE_BEFORE: 4,
            Key.REQUEST: 6,
            Key.REQUEST_END: 7,
            Key.RESP_FIN: 8,
            Key.ORIG_FIN: 9,
            Key.RESP_RST: 10,
        }
    }


def test_a_key_segment_is_always_a_captured_one():
    """The last bytes of the request are a hole: there is no segment to show."""
    script = OPEN + f"+0 > P. {GET}\n+0 > P. 29:60(31) lost\n+0.01 < . ack 60\n+1 < R."
    for keys in frame(from_script(script))[2].values():
        assert min(keys.values()) >= 0


PROBE = "+15 > . 28:28(0) ack 39\n"
"""Repeats the number before the next byte of a connection on which ANSWERED went."""


def probed(script):
    found, _, keys = frame(from_script(script))
    return [bool(x["flags"] & ExchangeFlag.PROBED) for x in found], keys


def test_a_probe_that_was_answered_in_the_idle_gap_is_kept_with_the_request():
    (n,) = {len(from_script(ANSWERED))}
    flags, keys = probed(ANSWERED + PROBE + "+0.1 < .\n" + PROBE + f"+0.1 < .\n+9 > P. {GET}\n+9 > R.")
    assert flags == [False, True]
    assert keys[0, 1][Key.KEEP_ALIVE_ACK] == n + 3
    assert keys[0, 1][Key.RESPONSE_BEFORE] == 4


def test_near_misses_no_answer_to_the_probe_or_none_in_this_gap():
    assert probed(ANSWERED + PROBE + f"+9 > P. {GET}\n+9 > R.")[0] == [False, False]
    twice = ANSWERED + PROBE + f"+0.1 < .\n+9 > P. {GET}\n+0.1 < P. {OK}\n+0 > .\n+9 > P. {GET}\n+9 > R."
    flags, keys = probed(twice)
    assert flags == [False, True, False]
    assert Key.KEEP_ALIVE_ACK not in keys[0, 2]


def test_a_probe_inside_the_wait_for_an_answer_is_none_of_the_idle_gap():
    flags, keys = probed(ANSWERED + f"+4 > P. {GET}\n+15 > . 56:56(0) ack 39\n+0.1 < .\n+9 > R.")
    assert flags == [False, False]
    assert Key.KEEP_ALIVE_ACK not in keys[0, 1]


def test_the_end_of_an_interim_response_is_not_the_end_of_the_final_one():
    interim = '+0.1 < P. "HTTP/1.1 100 Con"\n+0.1 < P. "tinue\\r\\n\\r\\n"\n'
    script = OPEN + f"+0 > P. {GET}\n" + interim + f"+0.1 < P. {OK}\n+0 > .\n+1 > P. {GET}\n+0.1 < R."
    assert frame(from_script(script))[2][0, 1][Key.RESPONSE_BEFORE] == 6


def test_an_attempt_that_failed_keeps_its_segments():
    _, _, keys = frame(from_script("+0 > S\n+1 > S 0:0(0)\n+2 > S 0:0(0)\n+0.1 < R. ack 1"))
    assert keys == {(0, -1): {Key.SYN: 0, Key.RETRANSMISSION: 1, Key.LAST_RETRANSMISSION: 2, Key.RESP_RST: 3}}


# Content that was not captured.


def test_a_snap_length_that_cuts_heads_leaves_target_and_status():
    segments = [replace(s, cap=24) for s in from_script(ANSWERED + f"+1 > P. {GET}\n+0.1 < P. {OK}")]
    found, _, _ = frame(segments)
    assert [(x["target"], x["status_code"], x["outcome"]) for x in found] == [(b"/a", 200, Outcome.ANSWERED)] * 2
    assert {x["request_framing"] for x in found} == {Framing.TURN}


def test_without_any_captured_payload_turns_are_exchanges():
    segments = [replace(s, cap=0) for s in from_script(ANSWERED + f"+1 > P. {GET}\n+0.1 < R.")]
    found, _, _ = frame(segments)
    assert [Outcome(x["outcome"]).name for x in found] == ["ANSWERED", "UNANSWERED"]
    assert {x["protocol"] for x in found} == {Protocol.UNKNOWN}


def test_a_head_behind_whose_beginning_is_a_hole_keeps_what_was_read():
    script = OPEN + '+0 > P. "GET /seen HTTP/1.1\\r\\nHo"\n+0 > P. 23:40(17) lost\n+0.01 < . ack 40\n+1 < R.'
    x = only(script)
    assert (x["method"], x["target"]) == (Method.GET, b"/seen")
    assert x["flags"] & ExchangeFlag.HOLE


# FastCGI, uwsgi and SCGI.


def _record(kind, content, padding=0):
    return bytes([1, kind, 0, 1]) + len(content).to_bytes(2, "big") + bytes([padding, 0]) + content + bytes(padding)


def _pair(name, value):
    return bytes([len(name)]) + len(value).to_bytes(4, "big")[:0] + bytes([len(value)]) + name + value


PARAMS = _pair(b"REQUEST_METHOD", b"POST") + _pair(b"REQUEST_URI", b"/up.php") + _pair(b"HTTP_HOST", b"app.test")
BEGIN = _record(1, b"\0\1\1\0\0\0\0\0") + _record(4, PARAMS, 3) + _record(4, b"")
ANSWER = _record(6, b"Status: 200 OK\r\n\r\nhi", 5) + _record(3, bytes(8))


def quoted(data):
    return '"' + "".join(f"\\x{byte:02x}" for byte in data) + '"'


def test_fastcgi_requests_have_names_and_ends():
    ask = quoted(BEGIN + _record(5, b"body") + _record(5, b""))
    found = exchanges_of(OPEN + f"+0 > P. {ask}\n+0.1 < P. {quoted(ANSWER)}\n+1 > P. {ask}\n+0.1 < F. ack 1000\n")
    assert [(x["method"], x["target"], x["host"]) for x in found] == [(Method.POST, b"/up.php", b"app.test")] * 2
    assert [Outcome(x["outcome"]).name for x in found] == ["ANSWERED", "UNANSWERED"]
    assert [x["request_framing"] for x in found] == [Framing.RECORDS] * 2
    assert not any(x["flags"] & ExchangeFlag.REQUEST_OPEN for x in found)


def test_what_follows_an_early_fastcgi_answer_is_the_rest_of_the_request():
    begin, more = quoted(BEGIN + _record(5, b"x" * 40)), quoted(_record(5, b"y" * 40))
    x = only(OPEN + f"+0 > P. {begin}\n+0.1 < P. {quoted(ANSWER)}\n+0.001 > P. {more}\n+0.001 < R.")
    assert x["flags"] & ExchangeFlag.EARLY_RESPONSE
    assert x["request_bytes"] == len(BEGIN) + 8 + 40 + 8 + 40


def test_a_fastcgi_answer_without_its_end_is_truncated():
    ask = quoted(BEGIN + _record(5, b""))
    script = OPEN + f"+0 > P. {ask}\n+0.1 < P. {quoted(_record(6, b'Status: 200 OK'))}\n+0 < F."
    assert Outcome(only(script)["outcome"]) is Outcome.TRUNCATED


@pytest.mark.parametrize("cut", range(1, 40))
def test_fastcgi_records_may_be_cut_anywhere(cut):
    data = BEGIN + _record(5, b"body") + _record(5, b"")
    script = OPEN + f"+0 > P. {quoted(data[:cut])}\n+0 > P. {quoted(data[cut:])}\n+0.1 < P. {quoted(ANSWER)}"
    x = only(script)
    assert (x["request_bytes"], x["response_bytes"], Outcome(x["outcome"]).name) == (len(data), len(ANSWER), "ANSWERED")


def _uwsgi(*pairs):
    block = b"".join(len(part).to_bytes(2, "little") + part for pair in pairs for part in pair)
    return b"\0" + len(block).to_bytes(2, "little") + b"\0" + block


def test_a_uwsgi_connection_carries_one_request():
    head = _uwsgi((b"REQUEST_METHOD", b"PUT"), (b"REQUEST_URI", b"/big"), (b"CONTENT_LENGTH", b"90"))
    answer = quoted(b"HTTP/1.1 413 Too Large\r\n\r\n")
    body = quoted(b"z" * 30)
    script = OPEN + f"+0 > P. {quoted(head)}\n+0 > P. {body}\n+0.1 < P. {answer}\n+2 > P. {body}\n+0.001 < R."
    x = only(script)
    assert (x["method"], x["target"]) == (Method.PUT, b"/big")
    assert x["flags"] & ExchangeFlag.EARLY_RESPONSE


def test_a_uwsgi_request_that_is_whole_was_not_answered_early():
    head = _uwsgi((b"REQUEST_METHOD", b"PUT"), (b"REQUEST_URI", b"/big"), (b"CONTENT_LENGTH", b"30"))
    script = OPEN + f"+0 > P. {quoted(head + b'z' * 30)}\n+0.1 < P. {quoted(b'HTTP/1.1 200 OK')}\n+0 < F."
    assert not only(script)["flags"] & (ExchangeFlag.EARLY_RESPONSE | ExchangeFlag.REQUEST_OPEN)


def _scgi(*pairs, length=0):
    pairs = ((b"CONTENT_LENGTH", str(length).encode()), (b"SCGI", b"1"), *pairs)
    block = b"".join(part + b"\0" for pair in pairs for part in pair)
    return str(len(block)).encode() + b":" + block + b","


SCGI_PUT = (b"REQUEST_METHOD", b"PUT"), (b"REQUEST_URI", b"/of/scgi"), (b"HTTP_HOST", b"app.test")


def test_an_scgi_request_has_a_name_and_an_end():
    head = _scgi(*SCGI_PUT, (b"HTTP_X_REQUEST_ID", b"id-9"), length=30)
    x = only(OPEN + f"+0 > P. {quoted(head + b'z' * 30)}\n+0.1 < P. {quoted(b'Status: 503 No')}\n+0 < F.")
    assert (x["method"], x["target"], x["host"]) == (Method.PUT, b"/of/scgi", b"app.test")
    assert (x["status_code"], x["request_framing"], x["request_bytes"]) == (503, Framing.CONTENT_LENGTH, len(head) + 30)
    assert not x["flags"] & (ExchangeFlag.EARLY_RESPONSE | ExchangeFlag.REQUEST_OPEN)


def test_an_scgi_answer_before_the_end_of_the_upload_is_early():
    head, answer = _scgi(*SCGI_PUT, length=61), quoted(b"Status: 413 Too Large\r\n\r\n")
    body = quoted(b"z" * 30)
    script = OPEN + f"+0 > P. {quoted(head)}\n+0 > P. {body}\n+0.1 < P. {answer}\n+2 > P. {body}\n+0.001 < R."
    x = only(script)
    assert x["flags"] & ExchangeFlag.EARLY_RESPONSE
    assert x["flags"] & ExchangeFlag.REQUEST_OPEN


@pytest.mark.parametrize("cut", [21, 40, 60, 80])
def test_an_scgi_head_in_two_segments_still_says_where_the_request_ends(cut):
    data = _scgi(*SCGI_PUT, length=30) + b"z" * 30
    parts = f"+0 > P. {quoted(data[:cut])}\n+0 > P. {quoted(data[cut:])}"
    x = only(OPEN + f"{parts}\n+0.1 < P. {quoted(b'Status: 200 OK')}\n+0 < F.")
    assert (x["request_framing"], x["request_bytes"]) == (Framing.CONTENT_LENGTH, len(data))
    assert not x["flags"] & ExchangeFlag.REQUEST_OPEN


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"Status: 502 Bad Gateway\r\nContent-Type: text/html\r\n\r\n", 502),
        (b"X-Powered-By: PHP/8.2\r\nstatus:503\r\n\r\nbody", 503),
        (b"HTTP/1.1 504 Gateway Timeout\r\n\r\n", 504),
        (b"Content-Type: text/plain\r\n\r\nStatus: 502 is what the page says", -1),
        (b"Status: 50", -1),
        (b"Status: abc\r\n\r\n", -1),
        (b"", -1),
    ],
)
def test_a_cgi_response_says_its_status_in_its_head(head, status):
    ask = quoted(BEGIN + _record(5, b""))
    page = _record(6, b"Status: 999 is the second record")
    answer = quoted(_record(7, b"PHP Warning") + _record(6, head) + (page if head else b"") + _record(3, bytes(8)))
    assert only(OPEN + f"+0 > P. {ask}\n+0.1 < P. {answer}")["status_code"] == status
    ask = quoted(_uwsgi((b"REQUEST_METHOD", b"GET"), (b"REQUEST_URI", b"/")))
    if head:
        for asked in (ask, quoted(_scgi((b"REQUEST_METHOD", b"GET"), (b"REQUEST_URI", b"/")))):
            assert only(OPEN + f"+0 > P. {asked}\n+0.1 < P. {quoted(head)}\n+0 < F.")["status_code"] == status


# Early answers, goodbyes and records that cannot be requests.


def test_the_rest_of_a_tls_upload_is_no_second_request():
    """The answer comes inside the record that the originator is sending."""
    part = '"\\x17\\x03\\x03\\x01\\x00' + "d" * 100 + '"'
    rest = '"' + "d" * 156 + '"'
    script = TLS + TURN + f"+1 > P. {part}\n+0.1 < P. {DATA_RECORD}\n+0.001 > P. {rest}\n+0.001 < R."
    found = exchanges_of(script)
    assert len(found) == 2
    assert found[1]["flags"] & ExchangeFlag.EARLY_RESPONSE


@pytest.mark.parametrize("size", [26, 30, 33])
def test_tls_records_too_short_for_a_request_are_none(size):
    """HTTP/2 acknowledges settings, updates windows and pings inside a response."""
    control = f'"\\x17\\x03\\x03\\x00\\x{size:02x}' + "c" * size + '"'
    assert len(exchanges_of(TLS + TURN + f"+1 > P. {control}\n+0.1 < P. {DATA_RECORD}\n+0 > P. {control}")) == 1


def test_only_an_alert_is_a_close_notify():
    ticket = '"\\x17\\x03\\x03\\x00\\x60' + "t" * 96 + '"'
    script = TLS + TURN + f"+5 > P. {DATA_RECORD}\n+0.001 < P. 64:165(101) ack 64 {ticket}\n+0 < F. ack 64"
    _, _, keys = frame(from_script(script))
    assert Key.UNSOLICITED not in keys[0, 1]


@pytest.mark.parametrize("goodbye", ['"QUIT\\r\\n"', '"\\x01\\x00\\x00\\x00\\x01"', '"X\\x00\\x00\\x00\\x04"'])
def test_a_goodbye_is_marked_and_a_message_is_not(goodbye):
    script = OPEN + f'+0 > P. "HELO there\\r\\n"\n+0.1 < P. "250 ok"\n+1 > P. {goodbye}\n+0.1 < F.'
    assert [bool(x["flags"] & ExchangeFlag.GOODBYE) for x in exchanges_of(script)] == [False, True]


def test_a_window_of_zero_inside_a_request_is_kept():
    head = '"POST /a HTTP/1.1\\r\\nContent-Length: 100\\r\\n\\r\\n"'
    script = OPEN + f"+0 > P. {head}\n+0.1 < . win 0\n+5 > F."
    _, _, keys = frame(from_script(script))
    assert keys[0, 0][Key.ZERO_WINDOW] == 4


@pytest.mark.parametrize(
    ("after", "frame_number"),
    [
        ("+1 > . win 0\n+9 > . win 0\n+50 < R.", 5),
        ("+1 > . win 0\n+1 > .\n+50 < R.", None),
        ("+1 > . win 0\n+1 > .\n+1 > . win 0\n+50 < R.", 7),
        ("+1 > . win 0\n+30 > R. win 0", 5),
        ("+1 > .\n+30 > R. win 0", None),
    ],
)
def test_the_originators_window_of_zero_inside_a_response_is_kept_until_it_opens(after, frame_number):
    begun = '"HTTP/1.1 200 OK\\r\\nContent-Length: 100\\r\\n\\r\\nok"'
    script = OPEN + f"+0 > P. {GET}\n+0.1 < P. {begun}\n{after}"
    _, _, keys = frame(from_script(script))
    assert keys[0, 0].get(Key.ORIG_ZERO_WINDOW) == frame_number


def test_a_window_of_zero_belongs_to_one_response():
    begun = '"HTTP/1.1 200 OK\\r\\nContent-Length: 4\\r\\n\\r\\nok"'
    script = (
        OPEN + f'+0 > P. {GET}\n+0 < P. {begun}\n+1 > . win 0\n+1 < P. "ok"\n+1 > P. {GET}\n+1 < P. {begun}\n+1 < R.'
    )
    _, _, keys = frame(from_script(script))
    assert Key.ORIG_ZERO_WINDOW not in keys[0, 1]


def test_an_answer_that_was_stored_before_its_request_answers_it():
    script = OPEN + '+0 > P. "hello?"  lost\n+0.1 < P. 1:4(3) ack 7 "yes"\n+0 > P. 1:7(6) ack 1 "hello?"\n+0 < F. ack 7'
    x = only(script)
    assert Outcome(x["outcome"]) is Outcome.ANSWERED


def test_a_408_that_crosses_a_request_does_not_answer_it():
    refusal = '"HTTP/1.1 408 Request Timeout\\r\\nConnection: close\\r\\nContent-Length: 0\\r\\n\\r\\n"'
    script = ANSWERED + f"+5 > P. {GET}\n+0.001 < P. ack 29 {refusal}\n+0 < F. ack 29\n+0.01 < R"
    found = exchanges_of(script)
    assert [Outcome(x["outcome"]).name for x in found] == ["ANSWERED", "UNANSWERED"]


def test_a_408_on_an_idle_connection_is_no_exchange_and_leaves_its_idle_time_as_it_was():
    exchanges, (row,), _ = frame(from_script(ANSWERED + f"+5 < P. {REFUSAL}\n+0 < F."))
    assert (len(exchanges), row["n_exchanges"]) == (1, 1)
    assert row["idle_at_close_ns"] == 5 * S


def test_a_408_on_a_connection_that_was_opened_ahead_is_no_exchange():
    exchanges, (row,), _ = frame(from_script(OPEN + f"+5 < P. {REFUSAL}\n+0 < F."))
    assert (len(exchanges), row["n_exchanges"]) == (0, 0)


@pytest.mark.parametrize(
    "script",
    [
        f"+5 < P. {REFUSAL}\n+0 < F.",  # in mid-stream: what it answers was sent before the capture began
        ANSWERED + f"+5 > P. {GET} lost\n+1 < P. {REFUSAL}\n+0 < F.",
        ANSWERED + f"+5 < P. {OK}\n+0 < F.",
    ],
)
def test_a_408_that_may_answer_a_request_which_the_capture_lacks_is_an_exchange(script):
    assert outcomes(script)[-1] == "RESPONSE_ONLY"


def test_a_408_that_has_the_request_answers_it():
    refusal = '"HTTP/1.1 408 Request Timeout\\r\\nContent-Length: 0\\r\\n\\r\\n"'
    assert outcomes(ANSWERED + f"+5 > P. {GET}\n+0.001 < P. {refusal}\n+0 > .")[-1] == "ANSWERED"


def test_a_response_that_was_stored_before_its_request_leaves_no_request_unanswered():
    script = OPEN + f"+0 > P. {GET} lost\n+0.1 < P. {OK}\n+0 > P. 1:29(28) ack 1 {GET}\n+0 > .\n+5 > F.\n+0 < F."
    x = only(script)
    assert (Outcome(x["outcome"]).name, x["status_code"], x["target"]) == ("ANSWERED", 200, b"/a")


@pytest.mark.parametrize("next_request", ["", f"+1 > P. {GET}\n+0.1 < P. {OK}\n"])
def test_a_response_stored_before_its_request_and_the_request_are_one_exchange(next_request):
    begun = '"HTTP/1.1 200 OK\\r\\nContent-Length: 4\\r\\n\\r\\nok"'
    script = OPEN + f'+0 > P. {GET} lost\n+0.1 < P. {begun}\n+0 > P. 1:29(28) ack 1 {GET}\n+1 < P. "ok"\n{next_request}'
    assert outcomes(script) == ["ANSWERED"] * (1 + bool(next_request))


def test_pipelined_requests_behind_a_last_response_are_not_owed_an_answer():
    last = '"HTTP/1.1 501 No\\r\\nConnection: close\\r\\nContent-Length: 0\\r\\n\\r\\n"'
    found = exchanges_of(OPEN + f"+0 > P. {GET}\n+0 > P. {GET}\n+0.1 < P. {last}\n+0 < F.")
    assert [bool(x["flags"] & ExchangeFlag.NOT_OWED) for x in found] == [False, True]


# TLS and other turns.


def test_application_records_are_turns_and_the_handshake_is_none():
    found = exchanges_of(TLS + TURN + TURN)
    assert [(x["protocol"], x["outcome"]) for x in found] == [(Protocol.TLS, Outcome.ANSWERED)] * 2


def test_a_close_notify_that_crosses_the_request_is_no_answer():
    script = TLS + TURN + f"+5 > P. {DATA_RECORD}\n+0.001 < P. 64:88(24) ack 64 {ALERT_RECORD}\n+0 < F. ack 64\n+0 < R"
    found, _, keys = frame(from_script(script))
    assert found[1]["outcome"] == Outcome.UNANSWERED
    assert keys[0, 1][Key.UNSOLICITED] == 8


def test_a_hole_in_tls_does_not_shift_answers_to_the_wrong_requests():
    """The response is lost to the capture; those behind it answer their own requests."""
    lost = "+0.01 < P. 64:117(53) lost\n+0 > .\n"
    script = TLS + TURN + f"+1 > P. {DATA_RECORD}\n" + lost + ("+1 > . \n" + TURN) * 3 + "+1 < F."
    found = exchanges_of(script)
    assert [Outcome(x["outcome"]).name for x in found] == ["ANSWERED"] * 5
    assert [bool(x["flags"] & ExchangeFlag.PIPELINED) for x in found] == [False] * 5
    assert [bool(x["flags"] & ExchangeFlag.HOLE) for x in found] == [False, True, False, False, False]


@pytest.mark.parametrize(
    ("first", "protocol"),
    [
        ("\\x01\\x01\\x00\\x01\\x00\\x08\\x00\\x00\\x00\\x01\\x00\\x00\\x00\\x00\\x00\\x00", Protocol.FASTCGI),
        ("\\x00\\x20\\x00\\x00\\x04\\x00PATH" + "v" * 22, Protocol.UWSGI),
        ("18:CONTENT_LENGTH\\x000\\x00,", Protocol.SCGI),
        ("018:CONTENT_LENGTH\\x000\\x00,", Protocol.OPAQUE),
        ("18:CONTENT_TYPE\\x00text\\x00,", Protocol.OPAQUE),
        ("PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n", Protocol.HTTP2),
        ("\\x16\\x03\\x01\\x00\\x05hello", Protocol.TLS),
        ("get key\\r\\n", Protocol.OPAQUE),
    ],
)
def test_the_first_bytes_tell_the_protocol(first, protocol):
    _, (row,), _ = frame(from_script(OPEN + f'+0 > P. "{first}"\n+0.1 < P. "x"'))
    assert row["protocol"] == protocol


def test_a_server_that_speaks_first_answers_nothing():
    assert outcomes(OPEN + '+0 < P. "220 hello"\n+0.1 > P. "EHLO"\n+0.1 < P. "250"\n+0 > .') == ["ANSWERED"]


# Memory.


def test_many_connections_with_open_heads_share_the_growing_pools():
    def segment(i, side, seq, ack, payload):
        ends = ((*CLIENT[:2], 1024 + i), SERVER)
        return Segment(i, ends[side], ends[1 - side], ACK, seq, ack, payload)

    n = 3000
    opened = [segment(i, 0, 1, 1, b"GET /%d HTTP/1.1\r\nHo" % i) for i in range(n)]
    ended = [segment(i, 0, 1 + len(opened[i].payload), 1, b"st: h%d\r\n\r\n" % i) for i in range(n)]
    answers = [segment(i, 1, 1, 10**6, b"HTTP/1.1 204 X\r\n\r\n") for i in range(n)]
    found, rows, _ = frame(opened, ended, answers)
    assert [x["target"] for x in found] == [b"/%d" % i for i in range(n)]
    assert [x["host"] for x in found] == [b"h%d" % i for i in range(n)]
    assert {x["outcome"] for x in found} == {Outcome.ANSWERED}
    assert len(rows) == n


def test_an_empty_batch_changes_nothing():
    assert frame([]) == ([], [], {})


def test_a_duplicate_of_a_request_is_no_request():
    segments = from_script(ANSWERED)
    found, (row,), _ = frame([*segments[:4], segments[3], *segments[4:]])
    assert len(found) == 1
    assert row["orig_frames"] == 4
    assert Fate.DUPLICATE_CAPTURE == 12


def test_a_response_to_head_whose_request_came_before_the_capture_does_not_swallow_the_next_ones():
    announced = '"HTTP/1.1 200 OK\\r\\nContent-Length: 5000\\r\\n\\r\\n"'
    script = (
        f"+0 < P. {announced}\n+0 > .\n+1 > P. {GET}\n+0.1 < P. {OK}\n+0 > .\n+1 > P. {GET}\n+0.1 < P. {OK}\n+0 > .\n"
    )
    found = exchanges_of(script)
    assert [Outcome(x["outcome"]).name for x in found] == ["RESPONSE_ONLY", "ANSWERED", "ANSWERED"]
    assert [x["status_code"] for x in found] == [200, 200, 200]
    assert [x["request_frame"] for x in found] == [-1, 2, 5]
    assert [x["idle_before_ns"] for x in found[1:]] == [1 * S, 1 * S]


def test_content_that_has_begun_goes_on_after_a_request():
    begun = '"HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\n\\r\\nab"'
    found = exchanges_of(f'+0 < P. {begun}\n+0 > .\n+1 > P. {GET}\n+0 < P. "cde"\n+0.1 < P. {OK}\n+0 > .\n')
    assert [Outcome(x["outcome"]).name for x in found] == ["RESPONSE_ONLY", "ANSWERED"]
    assert found[0]["response_framing"] == Framing.CONTENT_LENGTH
