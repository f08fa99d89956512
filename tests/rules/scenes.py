"""Every decision of the rules as a scene: a trigger and near misses for each cause."""

from dataclasses import replace

from pcapdiag.analysis.model import AttemptSign
from pcapdiag.base.codes import ExchangeFlag, Key, Protocol, TcpFlag
from tests.rules.builders import (
    BEFORE,
    END,
    START,
    Seg,
    acknowledged,
    fin,
    proxy_fin,
    refused,
    request,
    resent,
    rst,
    syn_again,
    unsolicited,
    with_icmp,
)

SCENES = {}


def scene(code, **settings):
    """Register a function from `Scene` to losses; every one of them has the cause `code`."""

    def register(function):
        SCENES[function.__name__] = (function, code, settings)
        return function

    return register


def given_up(s, waits):
    """Return requests that the proxy gave up, from (wait in ms, depth)."""
    parts = enumerate(waits)
    return [s.lost(acknowledged(160), proxy_fin(w), depth=d, idle_ms=17, late=i * 100) for i, (w, d) in parts]


@scene("PD101")
def fin_crosses_the_request(s):
    return [s.lost(fin(127), proxy_fin(127.1, ack=BEFORE + 1), rst(160, seq=BEFORE + 1))]


@scene("PD101")
def fin_was_seen_just_before_the_request_and_not_read(s):
    return [s.lost(fin(-0.58), request(ack=BEFORE + 1), proxy_fin(0.1, ack=BEFORE + 1), idle_ms=4000.5)]


@scene("PD101")
def close_notify_crosses_and_the_proxy_closes_first(s):
    segments = (unsolicited(50), proxy_fin(50.2, ack=BEFORE + 24), fin(210, ack=END + 1, seq=BEFORE + 24))
    return [s.lost(*segments, idle_ms=3950)]


@scene("PD101")
def close_notify_was_seen_before_the_request_that_does_not_cover_it(s):
    before = Seg(Key.RESPONSE_BEFORE, -0.2, BEFORE, START, 24)
    segments = (before, fin(160, ack=END, seq=BEFORE + 24), proxy_fin(1))
    return [s.lost(*segments, idle_ms=-1, flags=ExchangeFlag.MID_STREAM, protocol=Protocol.TLS)]


@scene("PD201")
def other_bytes_before_an_alert_are_no_orderly_closing(s):
    """HTTP/2 says GOAWAY first; the request had not acknowledged it, and the upstream took the request."""
    late = Seg(Key.UNSOLICITED, 50, BEFORE + 39, START, 24, TcpFlag.ACK | TcpFlag.PSH)
    segments = (late, acknowledged(160), fin(161, ack=END, seq=BEFORE + 63))
    return [s.lost(*segments, idle_ms=900, protocol=Protocol.TLS)]


@scene("PD101")
def lone_rst_at_the_idle_timeout(s):
    return [s.lost(rst(162), idle_ms=3909)]


@scene("PD101")
def rst_of_its_own_accord_at_the_idle_timeout(s):
    return [s.lost(rst(95, ack=START), idle_ms=3909)]


@scene("PD101")
def fin_that_the_capture_lacks(s):
    return [s.lost(proxy_fin(50, ack=BEFORE + 1), rst(162), rst(162, seq=BEFORE + 1), idle_ms=3944)]


@scene("PD101")
def fin_on_a_connection_opened_long_ahead(s):
    return [s.lost(fin(127), depth=0, opened_ms=3_900)]


@scene("PD101")
def fin_of_a_reload_crosses(s):
    return [s.lost(fin(90), rst(160), idle_ms=250)]


@scene("PD102")
def fin_was_acknowledged_long_before_the_request(s):
    return [s.lost(fin(-30), request(ack=BEFORE + 1), idle_ms=4030)]


@scene("PD103")
def rst_covers_the_request_at_the_idle_timeout(s):
    return [s.lost(rst(161, ack=END), idle_ms=3990)]


@scene("PD103")
def fin_covers_the_request_at_the_idle_timeout(s):
    return [s.lost(acknowledged(160), fin(161, ack=END), idle_ms=3990)]


@scene("PD103")
def fin_covers_the_first_segment_of_the_request_at_the_idle_timeout(s):
    return [s.lost(fin(161, ack=START + 50), idle_ms=3990, flags=ExchangeFlag.ACKNOWLEDGED_PART)]


def _stream(s, *segments, error, processed=False, **changes):
    """Return a lost stream of HTTP/2; `processed` says whether the upstream may have done something of it."""
    flags = ExchangeFlag(0) if processed else ExchangeFlag.NOT_PROCESSED
    return s.lost(*segments, stream=3, stream_error=error, protocol=Protocol.HTTP2, flags=flags, **changes)


def _ends_stream(key, at, ack=END):
    return Seg(key, at, BEFORE, ack, 34, TcpFlag.ACK | TcpFlag.PSH)


@scene("PD404")
def goaway_names_an_earlier_stream_and_the_closing_covers_the_request(s):
    segments = (_ends_stream(Key.GOAWAY, 160), acknowledged(160), fin(161, ack=END, seq=BEFORE + 34))
    return [_stream(s, *segments, error=0)]


@scene("PD404")
def goaway_with_an_error_crosses_and_a_fin_behind_it(s):
    segments = (_ends_stream(Key.GOAWAY, 100, START), fin(100.1, seq=BEFORE + 34), rst(160))
    return [_stream(s, *segments, error=2, idle_ms=4_000)]


@scene("PD404")
def stream_is_refused(s):
    return [_stream(s, acknowledged(160), _ends_stream(Key.RESP_RESET_STREAM, 161), error=7)]


@scene("PD101")
def goaway_without_error_and_fin_of_an_idle_connection_cross(s):
    segments = (_ends_stream(Key.GOAWAY, 100, START), fin(100.1, seq=BEFORE + 34), rst(160))
    return [_stream(s, *segments, error=0, idle_ms=3_950)]


@scene("PD202")
def stream_is_reset_with_an_error_of_the_application(s):
    ended = (acknowledged(160), _ends_stream(Key.RESP_RESET_STREAM, 500))
    return [_stream(s, *ended, error=2, processed=True)]


@scene("PD206")
def proxy_cancels_a_stream_at_no_timeout(s):
    ended = (acknowledged(160), Seg(Key.ORIG_RESET_STREAM, 3_337, END, BEFORE, 13, TcpFlag.ACK | TcpFlag.PSH))
    return [_stream(s, *ended, error=8, processed=True)]


@scene("PD204")
def proxy_cancels_a_stream_at_its_timeout(s):
    ended = (acknowledged(160), Seg(Key.ORIG_RESET_STREAM, 15_001, END, BEFORE, 13, TcpFlag.ACK | TcpFlag.PSH))
    return [_stream(s, *ended, error=8, processed=True)]


@scene("PD104")
def only_retransmissions_on_reuse(s):
    return [s.lost(resent(360), resent(12_000, Key.LAST_RETRANSMISSION), retransmissions=7, idle_ms=5000)]


@scene("PD104")
def only_retransmissions_until_the_proxy_gives_up(s):
    return [s.lost(resent(360), proxy_fin(60_000), retransmissions=8, idle_ms=5000)]


@scene("PD105")
def rst_over_another_number_of_hops(s):
    return [s.lost(rst(160, ttl=64), idle_ms=3950, resp_ttl=63)]


@scene("PD105")
def rst_over_another_number_of_hops_that_claims_the_request(s):
    return [s.lost(rst(160, ack=END, ttl=64), idle_ms=i, resp_ttl=63) for i in (3990, 300_000)]


@scene("PD105")
def rst_faster_than_the_path(s):
    return [s.lost(rst(2), idle_ms=300_000)]


@scene("PD106")
def lone_rst_far_from_the_idle_timeout(s):
    return [s.lost(rst(160), idle_ms=2212)]


@scene("PD106")
def rst_of_another_initial_ttl_over_as_many_hops(s):
    return [s.lost(rst(160, ttl=254), idle_ms=2212, resp_ttl=63)]


@scene("PD106")
def rst_of_its_own_accord_comes_at_any_time(s):
    return [s.lost(rst(2, ack=START), idle_ms=2212)]


@scene("PD201")
def fin_covers_the_request_far_from_the_idle_timeout(s):
    return [s.lost(acknowledged(160), fin(196, ack=END), idle_ms=611)]


@scene("PD201")
def fin_covers_the_request_at_the_idle_timeout_but_much_later(s):
    return [s.lost(acknowledged(160), fin(30_000, ack=END), idle_ms=3990)]


@scene("PD201")
def fin_on_a_fresh_connection(s):
    return [s.lost(acknowledged(160), fin(2018, ack=END), depth=0)]


@scene("PD201")
def fin_crosses_the_request_on_a_connection_just_opened(s):
    return [s.lost(fin(20), depth=0)]


@scene("PD201")
def close_notify_covers_the_request_and_the_proxy_closes_first(s):
    alert = unsolicited(132, ack=END, length=31)
    closings = proxy_fin(132.2, ack=BEFORE + 31), fin(264, ack=END + 1, seq=BEFORE + 31)
    return [s.lost(acknowledged(132), alert, *closings, idle_ms=268)]


@scene("PD202")
def rst_after_the_acknowledgement(s):
    return [s.lost(acknowledged(160), rst(2364, ack=END), idle_ms=56)]


@scene("PD202")
def rst_on_a_fresh_connection(s):
    return [s.lost(rst(141), depth=0)]


@scene("PD204")
def waits_of_two_seconds_on_fresh_and_reused_connections(s):
    waits = [(2000.2, 1), (2000.8, 0), (2002.2, 0), (2009.6, 1)]
    return [
        s.lost(acknowledged(160), proxy_fin(w), depth=d, idle_ms=17, late=i * 100) for i, (w, d) in enumerate(waits)
    ]


@scene("PD204")
def waits_of_a_second_and_a_half_on_fresh_and_reused_connections(s):
    waits = [(1500.2, 1), (1500.8, 0), (1502.2, 0), (1503.6, 1)]
    return [
        s.lost(acknowledged(160), proxy_fin(w), depth=d, idle_ms=17, late=i * 100) for i, (w, d) in enumerate(waits)
    ]


@scene("PD204")
def two_waits_alike_to_the_millisecond_on_a_fresh_and_a_reused_connection(s):
    return given_up(s, [(1500.4, 1), (1499.4, 0)])


@scene("PD206")
def two_waits_nearly_alike_on_a_fresh_and_a_reused_connection(s):
    return given_up(s, [(1500.4, 1), (1507.4, 0)])


@scene("PD204")
def one_wait_of_sixty_seconds(s):
    return [s.lost(acknowledged(160), proxy_fin(60_003), idle_ms=17)]


@scene("PD206")
def waits_that_agree_only_with_the_opening_added(s):
    waits = [(840, 0), (1000.7, 1), (1000.8, 1), (1001.0, 1)]
    return [
        s.lost(acknowledged(160), proxy_fin(w), depth=d, idle_ms=17, late=i * 100) for i, (w, d) in enumerate(waits)
    ]


@scene("PD206")
def waits_of_half_a_second(s):
    return [
        s.lost(acknowledged(160), proxy_fin(w), idle_ms=200, late=i * 100) for i, w in enumerate((500.7, 500.9, 501))
    ]


@scene("PD206")
def one_odd_wait(s):
    return [s.lost(acknowledged(160), proxy_fin(723), idle_ms=17)]


@scene("PD206", clients_left_ms=(1999,))
def a_client_left_just_before(s):
    return [s.lost(acknowledged(160), proxy_fin(2000), idle_ms=17)]


@scene("PD301")
def syn_met_a_rst(s):
    return [s.attempt(refused(40))]


@scene("PD301")
def syn_met_an_icmp_port_unreachable(s):
    return [with_icmp(s.attempt(), code=3)]


@scene("PD302")
def syn_was_watched_for_a_second_beside_other_packets(s):
    return [s.attempt()]


@scene("PD303")
def the_syn_ack_is_repeated_and_the_request_vanishes(s):
    return [s.lost(resent(250), resent(3000, Key.LAST_RETRANSMISSION), depth=0, syn_ack_frames=3)]


@scene("PD305")
def syn_met_an_icmp_host_unreachable(s):
    return [with_icmp(s.attempt(), code=1)]


@scene("PD305")
def syn_met_an_icmp_prohibition_and_was_repeated(s):
    return [with_icmp(s.attempt(syn_again(1000)), code=13)]


@scene("PD502")
def a_large_segment_is_repeated_and_a_router_says_why(s):
    large = [replace(segment, length=1460) for segment in (resent(300), resent(9000, Key.LAST_RETRANSMISSION))]
    loss = s.lost(*large, retransmissions=5, depth=0, idle_ms=-1)
    return [with_icmp(loss, code=4, mtu=1400)]


@scene("PD999")
def a_single_syn_whose_answers_are_not_captured(s):
    return [s.attempt(sign=AttemptSign.NONE)]


@scene("PD999")
def a_syn_that_no_kernel_repeats_so(s):
    return [s.attempt(syn_again(10), sign=AttemptSign.MADE_UP | AttemptSign.WITNESSED)]


@scene("PD999")
def a_rst_that_does_not_acknowledge_the_syn(s):
    return [s.attempt(Seg(Key.RESP_RST, 40, 0, -1, 0, 4))]


@scene("PD302")
def syn_was_repeated_and_never_answered(s):
    return [s.attempt(syn_again(1000))]


@scene("PD999")
def still_waiting_when_the_capture_ended(s):
    return [s.lost(acknowledged(160), idle_ms=17)]


@scene("PD207")
def closed_during_the_upload(s):
    return [s.lost(fin(500, ack=START + 50), idle_ms=17, flags=ExchangeFlag.ACKNOWLEDGED_PART)]


@scene("PD207")
def reset_during_the_upload_on_a_fresh_connection(s):
    return [s.lost(rst(500, ack=START + 50), depth=0, flags=ExchangeFlag.ACKNOWLEDGED_PART)]


@scene("PD205")
def the_window_falls_to_zero_inside_the_request(s):
    full = Seg(Key.ZERO_WINDOW, 200, BEFORE, START + 50, 0, TcpFlag.ACK)
    flags = ExchangeFlag.REQUEST_OPEN | ExchangeFlag.ACKNOWLEDGED_PART
    return [s.lost(full, proxy_fin(60_200), idle_ms=17, flags=flags)]


@scene("PD205")
def http2_grants_no_more_inside_the_request(s):
    used = Seg(Key.CREDIT_USED, 200, START + 50, BEFORE, 100, TcpFlag.ACK | TcpFlag.PSH)
    flags = ExchangeFlag.REQUEST_OPEN | ExchangeFlag.ACKNOWLEDGED
    return [s.lost(used, proxy_fin(60_200), idle_ms=17, stream=3, protocol=Protocol.HTTP2, flags=flags)]


@scene("PD204")
def http2_had_granted_just_enough(s):
    used = Seg(Key.CREDIT_USED, 50, START + 50, BEFORE, 100, TcpFlag.ACK | TcpFlag.PSH)
    return [s.lost(used, acknowledged(160), proxy_fin(60_003), idle_ms=17, stream=3, protocol=Protocol.HTTP2)]


@scene("PD204")
def the_window_was_zero_for_a_while_and_the_request_came_whole(s):
    full = Seg(Key.ZERO_WINDOW, 50, BEFORE, START + 50, 0, TcpFlag.ACK)
    return [s.lost(full, acknowledged(160), proxy_fin(60_003), idle_ms=17)]


@scene("PD999")
def the_proxy_stops_inside_an_upload(s):
    return [s.lost(proxy_fin(500), idle_ms=17, flags=ExchangeFlag.REQUEST_OPEN | ExchangeFlag.ACKNOWLEDGED_PART)]


@scene("PD999")
def a_reset_in_a_protocol_that_is_not_known(s):
    return [s.lost(acknowledged(160), rst(200, ack=END), idle_ms=17, protocol=Protocol.OPAQUE)]


@scene("PD999")
def bytes_in_tls_that_cross_the_closing_right_behind_an_answer(s):
    return [s.lost(fin(50, ack=START), rst(160), idle_ms=0.2, protocol=Protocol.TLS)]


@scene("PD999")
def never_acknowledged_for_half_a_second_only(s):
    return [s.lost(resent(200), idle_ms=9_000, last_ts_ns=s.t0 + 10_500 * 10**6)]


@scene("PD207")
def reset_long_after_the_upstream_had_stopped_to_read_the_upload(s):
    return [s.lost(acknowledged(803), rst(69_821, ack=END), idle_ms=1330, flags=ExchangeFlag.REQUEST_OPEN)]


@scene("PD202")
def reset_with_the_request_in_hand_of_which_the_capture_lacks_bytes(s):
    flags = ExchangeFlag.REQUEST_OPEN | ExchangeFlag.HOLE
    return [s.lost(acknowledged(160), rst(2364, ack=END), idle_ms=56, flags=flags)]


@scene("PD999")
def only_retransmissions_on_a_fresh_connection(s):
    return [s.lost(resent(360), retransmissions=5, depth=0)]


@scene("PD999")
def acknowledged_only_when_the_proxy_had_given_up(s):
    late = acknowledged(8080.8), proxy_fin(8080.82)
    return [s.lost(resent(250), *late, depth=0)]


@scene("PD204")
def repeated_once_and_acknowledged_long_before_the_proxy_gives_up(s):
    return [s.lost(resent(250), acknowledged(410), proxy_fin(60_003), depth=0)]


@scene("PD999")
def only_a_part_was_acknowledged(s):
    return [s.lost(resent(360), retransmissions=5, idle_ms=17, flags=ExchangeFlag.ACKNOWLEDGED_PART)]


@scene("PD999")
def foreign_rst_on_a_fresh_connection(s):
    return [s.lost(rst(160, ttl=255), depth=0, resp_ttl=60)]


@scene("PD999")
def accepted_and_then_nothing(s):
    return [s.attempt(Seg(Key.SYN_ACK, 160, 0, 1))]
