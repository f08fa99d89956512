"""The clock of the access log against that of the capture.

Knows the joined ledger; neither lines nor packets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcapdiag.base.units import NS_PER_S

if TYPE_CHECKING:
    from pcapdiag.proxy.join.ledger import Ledger


def ahead_ns(ledger: Ledger) -> int:
    """[ns] Return the access log's clock minus the capture's.

    Parameters
    ----------
    ledger : Ledger
        With the requests of clients.
    """
    clock, tally = ledger.clock, ledger.clients
    ahead = 0
    # Within its width an offset is the middle of what whole seconds leave open, and no difference.
    if clock is not None and clock.is_measured and not clock.is_ambiguous and not clock.agrees:
        ahead = clock.offset_ns
    return ahead + (0 if tally is None or tally.has_zone else (ledger.zone_s or 0) * NS_PER_S)
