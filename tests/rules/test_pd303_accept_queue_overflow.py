"""PD303: requests on connections that nobody accepted, told from slow servers and from machines that are down."""

from pcapdiag.base.codes import Key
from pcapdiag.base.findings import Confidence
from pcapdiag.rules.diagnose import diagnose
from tests.rules.builders import (
    MS,
    S,
    Scene,
    acknowledged,
    causes_of,
    only,
    proxy_fin,
    resent,
    syn_again,
    with_connections,
)


def waiting(scene, **changes):
    """Return a first request that was acknowledged and never answered, until the proxy gave up."""
    return scene.lost(acknowledged(160), proxy_fin(4_000), depth=0, **changes)


def codes_of(scene, *losses):
    return causes_of(scene.analysis(*losses))


def test_requests_that_wait_while_syns_vanish_are_in_a_full_accept_queue():
    scene = Scene()
    syn = scene.attempt(syn_again(1000), late=100)
    finding = only(diagnose(scene.analysis(waiting(scene), waiting(scene, late=50), syn)), "PD303")
    assert (finding.count, finding.confidence) == (2, Confidence.LIKELY)
    assert "1 connection attempt to it got no answer" in finding.message
    assert "longer timeout" in finding.remedy


def test_the_two_findings_name_each_other():
    scene = Scene()
    diagnosis = diagnose(scene.analysis(waiting(scene), scene.attempt(syn_again(1000), late=100)))
    assert "full accept queue" in only(diagnosis, "PD302").message


def test_without_syns_that_vanish_the_upstream_is_slow():
    scene = Scene()
    assert codes_of(scene, waiting(scene)) == {"PD204": 1}


def test_a_machine_that_was_heard_of_no_more_may_be_down():
    scene = Scene()
    losses = waiting(scene), scene.attempt(syn_again(1000), late=500)
    assert codes_of(scene, *losses) == {"PD204": 1, "PD302": 1}


def test_a_request_on_reuse_was_accepted_long_ago():
    scene = Scene()
    busy = scene.lost(acknowledged(160), proxy_fin(4_000), depth=3, idle_ms=17)
    assert codes_of(scene, busy, scene.attempt(syn_again(1000), late=100)) == {"PD204": 1, "PD302": 1}


def test_a_repeated_syn_ack_and_a_request_that_vanishes_are_a_full_queue():
    scene = Scene()
    segments = resent(250), resent(3000, Key.LAST_RETRANSMISSION)
    assert codes_of(scene, scene.lost(*segments, depth=0, syn_ack_frames=3)) == {"PD303": 1}
    assert codes_of(scene, scene.lost(*segments, depth=0, syn_ack_frames=1)) == {"PD999": 1}


def test_with_one_syn_ack_repeated_all_that_are_dropped_meanwhile_are_in_the_same_queue():
    scene = Scene()
    segments = resent(250), resent(3000, Key.LAST_RETRANSMISSION)
    stuck = scene.lost(*segments, proxy_fin(4_000), depth=0, syn_ack_frames=2)
    beside = scene.lost(*segments, proxy_fin(4_000), depth=0, syn_ack_frames=1, late=1_000)
    finding = only(diagnose(scene.analysis(stuck, beside)), "PD303")
    assert finding.count == 2
    assert "2 requests" in finding.message
    assert "on fresh connections" in finding.message


def test_what_was_taken_or_came_at_another_time_or_on_reuse_is_not_in_that_queue():
    scene = Scene()
    segments = resent(250), resent(3000, Key.LAST_RETRANSMISSION)
    stuck = scene.lost(*segments, proxy_fin(4_000), depth=0, syn_ack_frames=2)
    later = scene.lost(*segments, proxy_fin(4_000), depth=0, syn_ack_frames=1, late=60_000)
    reused = scene.lost(*segments, proxy_fin(4_000), depth=3, idle_ms=17, syn_ack_frames=1)
    for other in (waiting(scene, syn_ack_frames=1), later, reused):
        causes = codes_of(scene, stuck, other)
        assert causes["PD303"] == 1
        assert sum(causes.values()) == 2
    message = only(diagnose(scene.analysis(stuck, later)), "PD303").message
    assert message.startswith("1 request to ")
    assert "on a fresh connection that" in message


def test_attempts_and_late_openings_of_another_time_are_not_said_to_be_of_the_same():
    scene = Scene()
    attempts = scene.attempt(syn_again(1000), late=100), scene.attempt(syn_again(1000), late=90_000)
    analysis = scene.analysis(waiting(scene), *attempts)
    late = with_connections(analysis, syn_frames=3, syn_ack_frames=1, first_ts_ns=scene.t0 + 60_000 * MS)
    message = only(diagnose(late), "PD303").message
    assert "At the same time 1 connection attempt to it got no answer" in message
    assert "opened then" not in message
    during = with_connections(
        analysis, syn_frames=3, syn_ack_frames=1, first_ts_ns=scene.t0, last_ts_ns=scene.t0 + 20 * S
    )
    assert "opened then only after a repeated SYN" in only(diagnose(during), "PD303").message
