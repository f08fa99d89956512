"""Failures as rates: how many of so many requests, in the words that the site, its tables and `history` share.

Requests are tries at upstreams, as the store counts them by night.
"""

from __future__ import annotations

from pcapdiag.base.units import count_of


def share_of(failures: int, requests: int) -> float:
    """Return which part of the requests failed, in percent; -1 where that cannot be told.

    Attempts to connect are failures and no requests: where there are more of them, no rate is one.
    """
    return 100 * failures / requests if requests > 0 and 0 <= failures <= requests else -1.0


def spell_share(failures: int, requests: int) -> str:
    """Return the rate as it stands in a table; a dash where it cannot be told."""
    share = share_of(failures, requests)
    if share < 0:
        return "-"
    if not failures:
        return "0 %"
    # Nearly all is not all.
    return ">99.9 %" if 99.95 <= share < 100 else f"{share:.3g} %"


def spell_failures(failures: int, requests: int) -> str:
    """Return how many of the requests of a night failed, in a few words."""
    if not failures:
        return "no request failed" if not requests else f"none of {count_of(requests, 'request')} failed"
    if share_of(failures, requests) < 0:
        return f"{count_of(failures, 'request')} failed"
    return f"{failures:,} of {count_of(requests, 'request')} failed ({spell_share(failures, requests)})"
