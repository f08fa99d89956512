"""Responses that the proxy ended inside their body: because its client went away, and where nothing is said of it."""

from dataclasses import replace

import numpy as np
import pytest

from pcapdiag.base.codes import Key, Leg
from pcapdiag.base.columns import CONNECTIONS
from pcapdiag.base.findings import Confidence, Effect, Severity
from pcapdiag.base.tables import Table
from pcapdiag.proxy.join.clients import ClientTally, Served
from pcapdiag.proxy.join.ledger import EntryVerdict, JoinedEntry, JoinedTry, Ledger, LogClock, WireVerdict
from pcapdiag.proxy.logs.entries import LogKind
from pcapdiag.rules._left_inside import Ending, left_inside
from pcapdiag.rules._logged import without_entry
from pcapdiag.rules.diagnose import diagnose
from tests.proxy.join.builders import MS, PEER, T0, T0_S, S, access, entry, wire
from tests.rules.builders import BEFORE, END, Scene, Seg, acknowledged, fin, only, proxy_fin

BEGUN = Seg(Key.RESPONSE, 300, BEFORE, END, 900)
AT_MS = 1_563


def cut(scene, *segments, **changes):
    """Return a response that had begun, and that the proxy ended if nothing else is given."""
    return scene.lost(acknowledged(160), BEGUN, *(segments or (proxy_fin(AT_MS),)), truncated=True, **changes)


def log_of(loss, *entries, verdict=WireVerdict.NOTHING_LOGGED, status=200, others_at=(-5, 5), until_s=-1, **changes):
    """Return the ledger of a log that has entries of other tries, so many seconds after T0, and `entries` of this."""
    ours = wire(
        300, conn=loss.connection.conn, resp_fin_ns=-1, orig_fin_ns=T0 + AT_MS * MS, first_response_ns=T0 + 600 * MS
    )
    ours = replace(ours, depth=loss.depth)
    line = access(AT_MS, (PEER, status, AT_MS), status=status)
    others = tuple(
        JoinedEntry(entry(at), EntryVerdict.EXPLAINED, "", Confidence.CONFIRMED, wire(at * 1_000, conn=90 + n))
        for n, at in enumerate(others_at)
    )
    clients = None
    if until_s >= 0:
        clients = ClientTally(seconds={T0_S + until_s: Served(requests=1)})
    parts = {"clock": LogClock(0, 10 * MS, 0, 3), "errors_read": len(others) + len(entries), "clients": clients}
    tries = (JoinedTry(ours, WireVerdict.LOGGED if entries else verdict, entries, line),)
    return Ledger(**(parts | {"entries": others, "tries": tries} | changes))


def found(scene, loss, **settings):
    return [(left.ending, left.confidence) for left in left_inside(scene.analysis(truncated=[loss], **settings))]


@pytest.mark.parametrize(("kind", "status"), [(LogKind.CLIENT_CLOSED, 499), (LogKind.CLIENT_CLOSED, 200), (None, 499)])
def test_the_log_says_that_the_client_left_inside_the_body(kind, status):
    scene = Scene()
    loss = cut(scene)
    entries = (entry(1, kind=kind),) if kind is not None else ()
    log = log_of(loss, *entries, status=status)
    assert found(scene, loss, log=log) == [(Ending.LOGGED, Confidence.CONFIRMED)]
    finding = only(diagnose(scene.analysis(truncated=[loss], log=log)), "PD206")
    assert (finding.severity, finding.facts.effect) == (Severity.INFO, Effect.CUT_OFF)
    assert "because the client went away (its log says so)" in finding.message


@pytest.mark.parametrize(("left_ms", "is_told"), [(AT_MS - 1, True), (AT_MS - 500, False), (AT_MS + 1, False)])
def test_a_client_that_closed_just_before_was_why(left_ms, is_told):
    scene = Scene()
    loss = cut(scene)
    expected = [(Ending.SEEN, Confidence.LIKELY)] if is_told else []
    assert found(scene, loss, clients_left_ms=(left_ms,)) == expected


@pytest.mark.parametrize(
    ("changes", "confidence"),
    [
        ({}, Confidence.LIKELY),
        ({"verdict": WireVerdict.NOT_IN_LOG}, Confidence.LIKELY),
        ({"others_at": (-5,)}, Confidence.POSSIBLE),  # the log may have been taken before
        ({"others_at": (-5,), "until_s": 3}, Confidence.LIKELY),  # the access log goes on
    ],
)
def test_a_failure_would_stand_in_an_error_log_of_that_time(changes, confidence):
    scene = Scene()
    loss = cut(scene)
    log = log_of(loss, **changes)
    assert found(scene, loss, log=log) == [(Ending.NO_ENTRY, confidence)]
    finding = only(diagnose(scene.analysis(truncated=[loss], log=log)), "PD206")
    assert finding.severity is Severity.INFO
    how = "perhaps" if confidence is Confidence.POSSIBLE else "most likely"
    assert f"its error log has no failure of it: {how} the client went away, or took nothing" in finding.message


@pytest.mark.parametrize(
    "changes",
    [
        {"verdict": WireVerdict.UNDETERMINED},
        {"verdict": WireVerdict.OUTSIDE_LOG},
        {"others_at": ()},  # nothing shows that it is the log of this time
        {"clock": None},
        {"clock": LogClock(0, 10 * MS, 0, 3, is_ambiguous=True)},
        {"entries_left_out": 1},
    ],
)
def test_a_log_that_may_lack_failures_tells_nothing(changes):
    scene = Scene()
    loss = cut(scene)
    log = log_of(loss, **changes)
    assert without_entry(scene.analysis(truncated=[loss], log=log)) == {}
    assert found(scene, loss, log=log) == []


def test_without_logs_and_clients_nothing_is_said():
    scene = Scene()
    assert found(scene, cut(scene)) == []


def test_another_failure_in_the_log_is_not_the_clients_going():
    scene = Scene()
    loss = cut(scene)
    assert found(scene, loss, log=log_of(loss, entry(1, kind=LogKind.INVALID_HEADER))) == []


@pytest.mark.parametrize(
    "segments",
    [
        (fin(1_500, ack=END, seq=BEFORE + 900), proxy_fin(AT_MS, ack=BEFORE + 901)),
        # The capture lacks the end of the response, or the upstream's FIN: the proxy had it.
        (proxy_fin(AT_MS, ack=BEFORE + 901),),
    ],
)
def test_what_the_upstream_ended_no_client_did(segments):
    scene = Scene()
    loss = cut(scene, *segments)
    assert found(scene, loss, log=log_of(loss)) == []


@pytest.mark.parametrize(("has_log", "code"), [(True, "PD206"), (False, "PD204")])
def test_a_timeout_of_the_proxys_own_would_stand_in_its_log(has_log, code):
    """The client, too, may leave after whole seconds."""
    scene = Scene()
    loss = cut(scene, proxy_fin(60_300))
    log = log_of(loss, others_at=(-5, 100)) if has_log else None
    codes = {f.code for f in diagnose(scene.analysis(truncated=[loss], log=log)).findings}
    assert codes & {"PD204", "PD206"} == {code}


def test_a_proxy_that_closes_all_it_has_stops():
    scene = Scene()
    loss = cut(scene)
    analysis = scene.analysis(truncated=[loss], clients_left_ms=(9_000, 9_001, 9_002), log=log_of(loss))
    closing = next(iter(left_inside(analysis))).closing
    rows = analysis.connections.rows.copy()
    rows["closing_open_exchange"][-3:], rows["idle_at_close_ns"][-3:], rows["closing_ts_ns"][-3:] = 0, S, closing.ts_ns
    legs = np.full(len(rows), Leg.UPSTREAM, dtype=np.int8)
    analysis = replace(analysis, connections=Table(CONNECTIONS, rows), legs=legs)
    assert [left.ending for left in left_inside(analysis)] == [Ending.STOPPED]
    finding = only(diagnose(analysis), "PD206")
    assert finding.severity is Severity.WARNING
    assert "most likely it stopped or was reloaded" in finding.message
