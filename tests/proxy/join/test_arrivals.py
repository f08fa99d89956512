"""Whether a lost request arrived at the application: small logs whose answer is plain to see."""

import pytest

from pcapdiag.proxy.join import arrivals as module
from pcapdiag.proxy.join.arrivals import AnsweredRequest, ArrivalVerdict, judge_arrivals
from pcapdiag.proxy.logs.entries import UpstreamLogEntry
from tests.proxy.join.builders import MS, OTHER, PEER, T0, S, wire

ARRIVED, ABSENT = ArrivalVerdict.ARRIVED, ArrivalVerdict.NOT_IN_LOG


def served(at_ms, n, *, peer=PEER, request_id=None, orig=None, target="/api", method="GET"):
    start = T0 + at_ms * MS
    rid = f"id{n}" if request_id is None else request_id
    return AnsweredRequest(peer, orig or f"10.1.1.100:{40000 + n}", start, start + 50 * MS, method, target, rid)


def line(number, at_ms, request_id="", *, client="", target="/api", method="GET", status=200):
    ts_ns = T0 + at_ms * MS if at_ms is not None else -1
    return UpstreamLogEntry("app.log", number, ts_ns, MS, True, request_id, method, target, status, client)


AROUND = [served(0, 1), served(1000, 2), served(3000, 3), served(4000, 4)]
LOST = wire(2000, conn=9, request_id="lost")


def lines_of(requests, offset_ms=0, *, has_id=True, has_port=False):
    return [
        line(
            number,
            (request.end_ns - T0) // MS + offset_ms,
            request.request_id if has_id else "",
            client=request.orig if has_port else "",
        )
        for number, request in enumerate(requests, 1)
    ]


def judge(lines, lost=LOST, others=AROUND, **options):
    return judge_arrivals([lost], others, [("app.log", lines)], **options).get(lost.key)


def test_a_line_with_its_request_id_says_that_it_arrived():
    arrival = judge([*lines_of(AROUND), line(9, 2100, "lost", status=500)])
    assert (arrival.verdict, arrival.line, arrival.status, arrival.by) == (ARRIVED, 9, 500, "request id")


def test_no_line_between_those_before_and_after_says_that_it_did_not():
    arrival = judge(lines_of(AROUND))
    assert (arrival.verdict, arrival.around) == (ABSENT, (2, 3))


@pytest.mark.parametrize(("kept", "around"), [(AROUND[:2], (2, -1)), (AROUND[2:], (-1, 1))])
def test_a_log_that_ends_before_or_begins_after_proves_nothing(kept, around):
    arrival = judge(lines_of(kept))
    assert (arrival.verdict, arrival.around) == (ArrivalVerdict.NOT_COVERED, around)


def test_lines_of_others_beyond_the_capture_cover_it_too():
    lines = [*lines_of(AROUND[:2]), line(3, 5000, "unknown", target="/else")]
    assert judge(lines, others=AROUND[:2]).around == (2, 3)


def test_a_log_that_lacks_answered_requests_is_of_another_upstream():
    assert judge(lines_of([AROUND[0], AROUND[3]])) is None
    assert judge(lines_of([served(n, n, peer=OTHER) for n in range(4)]), others=[served(0, 0, peer=OTHER)]) is None


def test_a_repetition_under_the_same_id_is_not_taken_for_the_lost_try():
    again = served(2200, 5, request_id="lost")
    others = [*AROUND[:2], again, *AROUND[2:]]
    assert judge(lines_of(others), others=others).verdict is ABSENT
    both = [*lines_of(others), line(9, 2100, "lost")]
    assert judge(both, others=others).verdict is ARRIVED


def test_the_port_of_the_proxy_tells_the_try_from_its_repetition():
    again = served(2200, 5, request_id="lost")
    others = [*AROUND[:2], again, *AROUND[2:]]
    own = line(9, 2100, "lost", client=LOST.orig)
    lines = lines_of(others, has_port=True)
    assert judge([*lines, own], others=others, is_sampled=True).line == 9
    assert judge(lines, others=others, is_sampled=True).verdict is ABSENT


def test_without_ids_the_proxy_s_port_is_enough():
    lines = lines_of(AROUND, has_id=False, has_port=True)
    arrival = judge(lines)
    assert (arrival.verdict, arrival.by) == (ABSENT, "the proxy's address and port")
    own = line(9, 2100, client=LOST.orig)
    assert judge([*lines, own]).verdict is ARRIVED
    assert judge([*lines, own], is_sampled=True).verdict is ArrivalVerdict.UNCLEAR


def test_what_is_no_http_in_the_clear_is_counted_by_connection():
    others = [served(at, n, request_id="", target="", method="") for n, at in enumerate((0, 1000, 3000, 4000))]
    lost = wire(2000, conn=9, target="", method="")
    lines = [line(n, None, client=other.orig) for n, other in enumerate(others, 1)]
    assert judge(lines, lost, others).verdict is ABSENT
    assert judge([*lines, line(9, None, client=lost.orig)], lost, others).verdict is ARRIVED


@pytest.mark.parametrize("offset_ms", [0, 137_000, 8 * 3600 * 1000])
def test_without_ids_and_ports_the_time_decides_whatever_the_clock(offset_ms):
    others = [served(at, n, request_id="") for n, at in enumerate((0, 7300, 100_000, 131_000, 160_000))]
    lost = wire(20_000, conn=9)
    lines = lines_of(others, offset_ms, has_id=False)
    arrival = judge(lines, lost, others)
    assert (arrival.verdict, arrival.by, arrival.around) == (ABSENT, "method, target and time", (2, 3))
    own = line(9, 20_100 + offset_ms)
    assert judge([*lines, own], lost, others).verdict is ARRIVED


def test_a_busy_time_is_unclear_without_ids_and_ports():
    others = [served(at, n, request_id="") for n, at in enumerate((0, 7300, 20_030, 100_000, 131_000, 160_000))]
    lost = wire(20_000, conn=9)
    lines = [*lines_of(others, has_id=False), line(9, 20_200)]
    assert judge(lines, lost, others).verdict in {ARRIVED, ArrivalVerdict.UNCLEAR}
    assert judge(lines_of(others, has_id=False), lost, others).verdict is ABSENT


def test_time_alone_does_not_tell_two_upstreams_apart():
    others = [*AROUND, served(500, 7, peer=OTHER)]
    assert judge(lines_of(others, has_id=False), others=others) is None


def test_two_lines_for_each_request_are_one_arrival_each():
    again = served(2200, 5, request_id="lost")
    others = [*AROUND[:2], again, *AROUND[2:]]
    lines = [entry for entry in lines_of(others) for _ in range(2)]
    assert judge(lines, others=others).verdict is ABSENT


def test_of_several_logs_the_one_that_has_it_counts():
    logs = [("a.log", lines_of(AROUND)), ("b.log", [*lines_of(AROUND), line(9, 2100, "lost")])]
    assert judge_arrivals([LOST], AROUND, logs)[LOST.key].path == "b.log"


def test_a_connection_attempt_has_no_request_to_look_up():
    assert judge_arrivals([wire(2000, depth=-1)], AROUND, [("app.log", lines_of(AROUND))]) == {}


def test_a_log_of_too_many_lines_proves_no_absence(monkeypatch):
    monkeypatch.setattr(module, "MOST_LINES", 4)
    lines = [*lines_of(AROUND), line(9, 5000, "id1")]
    assert judge(lines).verdict is ArrivalVerdict.NOT_COVERED


def test_the_order_of_time_is_the_log_s_not_the_clock_s():
    arrival = judge(lines_of(AROUND, offset_ms=-900 * S // MS))
    assert arrival.verdict is ABSENT
