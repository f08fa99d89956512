"""What clients noticed, and why it is not known."""

from dataclasses import replace

import pytest

from pcapdiag.proxy.conf.settings import ProxyKind
from pcapdiag.proxy.join.clients import ClientTally
from pcapdiag.proxy.join.ledger import Ledger
from pcapdiag.report.impact import impact_line, measure_impact
from tests.proxy.join.builders import PEER, access
from tests.rules.builders import Scene


def given(kind, *lines):
    tally = ClientTally()
    assert len(list(tally.watch(lines))) == len(lines)
    ledger = replace(Ledger(clock=None, entries=(), tries=()), clients=tally)
    return measure_impact(Scene().analysis(log=ledger, proxy_kind=kind))


@pytest.mark.parametrize("kind", [ProxyKind.HAPROXY, ProxyKind.APACHE])
@pytest.mark.parametrize("lines", [(), (access(700_000_000, (PEER, 200, 100)),)])
def test_an_access_log_of_another_proxy_that_was_not_understood_is_called_that(kind, lines):
    impact = given(kind, *lines)
    assert impact.failures < 0
    assert (
        impact_line(impact)
        == f"What clients saw is not known: the access log is one of {kind.value}, which is not read."
    )


def test_of_a_log_of_nginx_it_says_what_is_missing():
    assert "holds no request of the time of the capture" in impact_line(
        given(ProxyKind.NGINX, access(700_000_000, (PEER, 200, 100)))
    )
    assert "holds no request that could be read" in impact_line(given(None))
