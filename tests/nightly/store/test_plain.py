"""Rows as JSON has them."""

import json
from dataclasses import dataclass

from pcapdiag.nightly.store.model import FindingState
from pcapdiag.nightly.store.plain import plain_row


@dataclass
class Row:
    state: FindingState
    first_seen_ns: int
    last_seen_ns: int
    duration_ns: int


def test_every_absolute_time_has_its_text_beside_it_and_no_time_has_none():
    row = plain_row(Row(FindingState.NEW, 1_700_000_000_000_000_000, -1, 5))
    assert list(row) == ["state", "first_seen_ns", "first_seen", "last_seen_ns", "last_seen", "duration_ns"]
    assert (row["first_seen"], row["last_seen"]) == ("2023-11-14T22:13:20.000000000Z", None)
    assert json.loads(json.dumps(row)) == row
