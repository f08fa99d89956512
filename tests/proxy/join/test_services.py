"""A service address in the log, endpoints in the capture: learned from failures that agree, or not at all."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.proxy.conf.read import read_proxy_conf
from pcapdiag.proxy.join.join import join_logs
from pcapdiag.proxy.join.ledger import EntryVerdict, WireVerdict
from tests.proxy.join.builders import OTHER, PEER, SPAN, access, entry, wire

SERVICE, SECOND = "10.96.0.10:80", "10.96.0.20:8080"
AT = (0, 7, 13, 22, 41)


def tries(at=AT, peers=(PEER, OTHER), **changes):
    return [wire(1000 * s + 300, conn=n, peer=peers[n % len(peers)], **changes) for n, s in enumerate(at)]


def entries(at=AT, peer=SERVICE, line=1, **changes):
    return [entry(s, line=line + n, conn=50 + line + n, peer=peer, **changes) for n, s in enumerate(at)]


def verdicts(ledger):
    return {j.verdict for j in ledger.entries}


def test_endpoints_behind_a_service_address_are_learned_and_each_entry_gets_its_try():
    ledger = join_logs(tries(), SPAN, entries())
    assert ledger.services == {PEER: SERVICE, OTHER: SERVICE}
    assert [j.wire.peer for j in ledger.entries] == [PEER, OTHER, PEER, OTHER, PEER]
    assert [j.wire.conn for j in ledger.entries] == [0, 1, 2, 3, 4]
    assert verdicts(ledger) == {EntryVerdict.EXPLAINED}
    assert f"{SERVICE} of the log is {PEER} in the capture" in ledger.entries[0].reason
    assert {t.verdict for t in ledger.tries} == {WireVerdict.LOGGED}
    assert {t.wire.peer for t in ledger.tries} == {PEER, OTHER}


def test_two_failures_may_agree_by_chance():
    ledger = join_logs(tries(AT[:2]), SPAN, entries(AT[:2]))
    assert ledger.services == {}
    assert verdicts(ledger) == {EntryVerdict.NOT_CAPTURED}


def test_one_that_carries_the_request_id_of_the_access_log_is_enough():
    lines = [access(400, (SERVICE, 502, 100), conn=51, status=502, request_id="7f" * 16)]
    ledger = join_logs([wire(300, request_id="7f" * 16)], SPAN, entries(AT[:1]), lines)
    assert ledger.services == {PEER: SERVICE}


@pytest.mark.parametrize(
    ("wires", "log"),
    [
        (tries(), entries(tuple(s + 3600 + 17 for s in AT))),  # another time than any zone's
        (tries(), entries(AT[:2]) + entries((100, 110, 120, 130, 140), line=20)),  # more entries without a try
        (tries(target="/other"), entries()),
        (tries(method="POST"), entries()),
        (tries(), entries(peer="unix:/run/app.sock")),
        (tries(), entries(peer="backend")),
    ],
)
def test_what_does_not_agree_teaches_nothing(wires, log):
    assert join_logs(wires, SPAN, log).services == {}


def test_an_endpoint_that_the_log_names_itself_stands_behind_nothing():
    log = entries() + entries(AT, PEER, line=20)
    ledger = join_logs(tries(peers=(PEER,)), replace(SPAN, peers=frozenset({PEER})), log)
    assert ledger.services == {}


def test_two_services_are_told_apart_by_their_requests():
    first = tries(peers=(PEER,))
    second = [replace(w, conn=w.conn + 10, peer=OTHER, target="/b", start_ns=w.start_ns + 5) for w in first]
    log = entries() + entries(AT, SECOND, line=20, target="/b", upstream_uri="/b")
    ledger = join_logs([*first, *second], SPAN, log)
    assert ledger.services == {PEER: SERVICE, OTHER: SECOND}
    assert verdicts(ledger) == {EntryVerdict.EXPLAINED}


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 2)), min_size=3, max_size=12, unique_by=lambda x: x[0]))
def test_every_entry_has_one_try_and_no_try_two_entries(events):
    pods = [f"10.1.1.{n + 1}:80" for n in range(3)]
    span = replace(SPAN, peers=frozenset(pods))
    wires = [wire(1000 * s + 300, conn=n, peer=pods[pod]) for n, (s, pod) in enumerate(sorted(events))]
    ledger = join_logs(wires, span, entries(tuple(s for s, _ in sorted(events))))
    assert set(ledger.services) == {w.peer for w in wires}
    keys = [j.wire.key for j in ledger.entries]
    assert sorted(keys) == sorted(w.key for w in wires)
    assert all(j.wire.peer == pods[sorted(events)[j.wire.conn][1]] for j in ledger.entries)


def test_the_configuration_knows_the_endpoint_by_the_address_of_the_service(tmp_path):
    path = tmp_path / "nginx.conf"
    path.write_text(f"events {{}}\nhttp {{\n upstream be {{\n  server {SERVICE};\n }}\n}}\n")
    settings = read_proxy_conf(str(path), version="")
    assert settings.blocks_of_peer(PEER) == ()
    (block,) = replace(settings, services={PEER: SERVICE}).blocks_of_peer(PEER)
    assert block.name == "be"
