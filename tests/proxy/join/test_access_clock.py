"""How far the access log's clock is ahead of the capture's."""

from dataclasses import replace

import pytest

from pcapdiag.proxy.join.access_clock import ahead_ns
from pcapdiag.proxy.join.clients import ClientTally
from pcapdiag.proxy.join.ledger import Ledger


@pytest.mark.parametrize(("has_zone", "ahead_s"), [(True, 0), (False, 3600)])
def test_a_log_without_a_zone_is_ahead_by_that_of_the_error_log(has_zone, ahead_s):
    ledger = Ledger(clock=None, entries=(), tries=(), zone_s=3600, clients=ClientTally(has_zone=has_zone))
    assert ahead_ns(ledger) == ahead_s * 10**9
    assert ahead_ns(replace(ledger, clients=None, zone_s=None)) == 0
