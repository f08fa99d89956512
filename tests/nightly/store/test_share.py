"""Rates in words: what cannot be told is none, and what happened is never nothing."""

import pytest

from pcapdiag.nightly.store.share import share_of, spell_failures, spell_share


@pytest.mark.parametrize(
    ("failures", "requests", "share", "words"),
    [
        (0, 0, "-", "no request failed"),
        (0, 9, "0 %", "none of 9 requests failed"),
        (1, 1, "100 %", "1 of 1 request failed (100 %)"),
        (5, 22, "22.7 %", "5 of 22 requests failed (22.7 %)"),
        (1, 1_000_000, "0.0001 %", "1 of 1,000,000 requests failed (0.0001 %)"),
        (999_999, 1_000_000, ">99.9 %", "999,999 of 1,000,000 requests failed (>99.9 %)"),
        # Attempts to connect are no requests.
        (7, 3, "-", "7 requests failed"),
        (7, 0, "-", "7 requests failed"),
    ],
)
def test_failures_are_told_as_a_rate_where_there_is_one(failures, requests, share, words):
    assert spell_share(failures, requests) == share
    assert spell_failures(failures, requests) == words
    assert (share_of(failures, requests) >= 0) == (share != "-")
