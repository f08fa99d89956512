"""When something last came from an upstream, by whatever the tables keep of it."""

from dataclasses import replace

import pytest

from pcapdiag.base.codes import ClosingKind, Direction, Key, Outcome
from pcapdiag.base.columns import EXCHANGES
from pcapdiag.base.tables import Table
from pcapdiag.rules._attempts import heard_ns, icmp_words, silence_ns, was_there
from pcapdiag.rules.diagnose import diagnose
from tests.rules.builders import (
    MS,
    UPSTREAM,
    Scene,
    acknowledged,
    icmp_error,
    only,
    proxy_fin,
    syn_again,
    with_connections,
    with_icmp,
)

ADDRESS = UPSTREAM.address


def analysis_with(scene, **columns):
    return with_connections(scene.analysis(), **{"first_closer": -1} | columns)


def heard(analysis):
    return heard_ns(analysis, ADDRESS).tolist()


def test_openings_closings_and_acknowledged_fins_tell():
    scene = Scene()
    assert heard(analysis_with(scene, first_ts_ns=5)) == []
    assert heard(analysis_with(scene, first_ts_ns=5, syn_ack_frames=1)) == [5]
    closed = {"closing_ts_ns": 9, "closing_kind": ClosingKind.FIN, "closing_seq": 100}
    assert heard(analysis_with(scene, first_closer=Direction.RESP, **closed)) == [9]
    mine = closed | {"first_closer": Direction.ORIG}
    assert heard(analysis_with(scene, resp_max_ack=101, **mine)) == [9]
    assert heard(analysis_with(scene, resp_max_ack=100, **mine)) == []
    assert heard(analysis_with(scene, resp_frames=0, syn_ack_frames=1)) == []


def test_answers_tell():
    scene = Scene()
    rows = EXCHANGES.empty(2)
    rows["outcome"] = [Outcome.ANSWERED, Outcome.UNANSWERED]
    rows["request_ts_ns"], rows["duration_ns"] = [10, 500], [7, -1]
    assert heard(replace(analysis_with(scene), exchanges=Table(EXCHANGES, rows))) == [17]


def test_segments_of_lost_requests_and_icmp_of_its_own_tell():
    scene = Scene()
    loss = scene.lost(acknowledged(160), depth=0)
    assert heard(scene.analysis(loss)) == [loss.request_ts_ns + 160 * MS]
    attempt = scene.attempt()
    assert heard(scene.analysis(with_icmp(attempt, code=13))) == []
    by_itself = with_icmp(attempt, code=13, sender=(0, 0xFFFF0A010101))
    assert heard(scene.analysis(by_itself)) == [attempt.request_ts_ns + 40 * MS]


def test_silence_lies_between_two_packets():
    scene = Scene()
    first, second = (scene.lost(acknowledged(160), depth=0, late=late) for late in (0, 5_000))
    at = [loss.request_ts_ns + 160 * MS for loss in (first, second)]
    analysis = scene.analysis(first, second)
    times = at[0] - 1, at[0], at[1] - 1, at[1]
    assert [silence_ns(analysis, ADDRESS, t) for t in times] == [(-1, at[0]), tuple(at), tuple(at), (at[1], -1)]


def syn(scene, late, last_ms=1_000):
    """Return an attempt that was given up so many ms after it began."""
    attempt = scene.attempt(syn_again(1000), late=late)
    return replace(attempt, connection=replace(attempt.connection, last_ts_ns=attempt.request_ts_ns + last_ms * MS))


@pytest.mark.parametrize(("heard_ms", "is_there"), [(500, True), (5_000, True), (9_500, True), (20_000, False)])
def test_a_machine_that_answers_something_during_or_between_attempts_was_there(heard_ms, is_there):
    scene = Scene()
    attempts = [syn(scene, 0), syn(scene, 9_000)]
    beside = scene.lost(acknowledged(heard_ms), depth=0)
    assert was_there(scene.analysis(*attempts, beside), attempts) == is_there


@pytest.mark.parametrize(("opened", "is_there"), [(False, True), (True, False)])
def test_one_that_opened_a_connection_between_them_may_have_been_away_twice(opened, is_there):
    scene = Scene()
    attempts = [syn(scene, 0), syn(scene, 9_000)]
    beside = scene.lost(acknowledged(5_000), depth=0)
    columns = {"syn_ack_frames": int(opened), "first_ts_ns": beside.request_ts_ns + 5_000 * MS}
    analysis = with_connections(scene.analysis(*attempts, beside), first_closer=-1, **columns)
    assert was_there(analysis, attempts) == is_there


def given_up(scene, at_ms=4_000, **changes):
    return scene.lost(acknowledged(160), proxy_fin(at_ms), depth=0, **changes)


def test_a_request_whose_upstream_was_gone_met_no_slow_server():
    scene = Scene()
    finding = only(diagnose(scene.analysis(given_up(scene), syn(scene, 2_000), syn(scene, 6_000))), "PD204")
    assert "2 connection attempts to it got no answer either" in finding.message
    assert "not slow" in finding.message
    assert "No longer timeout helps" in finding.remedy
    assert finding.changes == ()


def test_an_upstream_that_acknowledges_the_proxys_fin_is_there():
    scene = Scene()
    loss = given_up(scene)
    fin = loss.keys[Key.ORIG_FIN]
    closed = {"first_closer": Direction.ORIG, "closing_kind": ClosingKind.FIN, "closing_ts_ns": fin.ts_ns}
    analysis = scene.analysis(loss, syn(scene, 6_000))
    analysis = with_connections(analysis, closing_seq=fin.seq, resp_max_ack=fin.next_seq, **closed)
    assert "not slow" not in only(diagnose(analysis), "PD204").message


def test_without_syns_in_vain_a_silent_upstream_is_slow():
    scene = Scene()
    analysis = scene.analysis(given_up(scene), scene.attempt(late=6_000))
    assert "not slow" not in only(diagnose(analysis), "PD204").message


def test_many_senders_are_shortened():
    scene = Scene()
    attempt = scene.attempt()
    errors = [icmp_error(attempt, sender=(0, 0xFFFF0A010100 + n)) for n in range(1, 7)]
    assert icmp_words(errors) == (
        "ICMP host unreachable (type 3 code 1) from 10.1.1.1, 10.1.1.2, 10.1.1.3 and 3 others"
    )
