"""When something last came from an upstream, by whatever the tables keep of it."""

from dataclasses import replace

from pcapdiag.base.codes import ClosingKind, Direction, Outcome
from pcapdiag.base.columns import EXCHANGES
from pcapdiag.base.tables import Table
from pcapdiag.rules._attempts import icmp_words, is_down_since, last_heard_ns
from tests.rules.builders import MS, UPSTREAM, Scene, acknowledged, icmp_error, syn_again, with_connections, with_icmp

ADDRESS = UPSTREAM.address


def analysis_with(scene, **columns):
    return with_connections(scene.analysis(), **{"first_closer": -1} | columns)


def test_openings_closings_and_acknowledged_fins_tell():
    scene = Scene()
    assert last_heard_ns(analysis_with(scene, first_ts_ns=5), ADDRESS) == -1
    assert last_heard_ns(analysis_with(scene, first_ts_ns=5, syn_ack_frames=1), ADDRESS) == 5
    closed = {"closing_ts_ns": 9, "closing_kind": ClosingKind.FIN, "closing_seq": 100}
    assert last_heard_ns(analysis_with(scene, first_closer=Direction.RESP, **closed), ADDRESS) == 9
    mine = closed | {"first_closer": Direction.ORIG}
    assert last_heard_ns(analysis_with(scene, resp_max_ack=101, **mine), ADDRESS) == 9
    assert last_heard_ns(analysis_with(scene, resp_max_ack=100, **mine), ADDRESS) == -1
    assert last_heard_ns(analysis_with(scene, resp_frames=0, syn_ack_frames=1), ADDRESS) == -1


def test_answers_tell():
    scene = Scene()
    rows = EXCHANGES.empty(2)
    rows["outcome"] = [Outcome.ANSWERED, Outcome.UNANSWERED]
    rows["request_ts_ns"], rows["duration_ns"] = [10, 500], [7, -1]
    analysis = replace(analysis_with(scene), exchanges=Table(EXCHANGES, rows))
    assert last_heard_ns(analysis, ADDRESS) == 17


def test_segments_of_lost_requests_and_icmp_of_its_own_tell():
    scene = Scene()
    loss = scene.lost(acknowledged(160))
    assert last_heard_ns(scene.analysis(loss), ADDRESS) == loss.request_ts_ns + 160 * MS
    attempt = scene.attempt()
    by_router = with_icmp(attempt, code=13)
    assert last_heard_ns(scene.analysis(by_router), ADDRESS) == -1
    by_itself = with_icmp(attempt, code=13, sender=(0, 0xFFFF0A010101))
    assert last_heard_ns(scene.analysis(by_itself), ADDRESS) == attempt.request_ts_ns + 40 * MS


def test_an_upstream_is_down_where_nothing_comes_and_repeated_syns_get_nothing():
    scene = Scene()
    loss = scene.lost(acknowledged(160))
    since = loss.request_ts_ns + 1_000 * MS
    assert is_down_since(scene.analysis(loss, scene.attempt(syn_again(1000), late=2_000)), ADDRESS, since)
    assert not is_down_since(scene.analysis(loss), ADDRESS, since)
    assert not is_down_since(
        scene.analysis(loss, scene.attempt(syn_again(1000), late=2_000)), ADDRESS, since - 900 * MS
    )
    assert not is_down_since(scene.analysis(loss, scene.attempt(late=2_000)), ADDRESS, since)


def test_many_senders_are_shortened():
    scene = Scene()
    attempt = scene.attempt()
    errors = [icmp_error(attempt, sender=(0, 0xFFFF0A010100 + n)) for n in range(1, 7)]
    assert icmp_words(errors) == (
        "ICMP host unreachable (type 3 code 1) from 10.1.1.1, 10.1.1.2, 10.1.1.3 and 3 others"
    )
