"""The differences that no rule explains, each read frame by frame and written into `tests/world.tsv`."""

import csv
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

TABLE = Path(__file__).resolve().parent.parent / "world.tsv"
COLUMNS = ("capture", "what", "ours", "tshark", "class", "reason")
MISTAKE = "ours"
"""Class of a difference in which pcapdiag is wrong: known, and not explained."""


class Row(NamedTuple):
    """One row: so many things only pcapdiag sees, so many only tshark."""

    capture: str
    what: str
    ours: int
    tshark: int
    reason_class: str
    reason: str

    @property
    def is_explained(self):
        """Whether pcapdiag is right, or neither is wrong."""
        return self.reason_class != MISTAKE


def read_table(path):
    """Return {capture: {what: Row}}; ValueError where a row is not as `COLUMNS` say, or given twice."""
    rows = defaultdict(dict)
    with Path(path).open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        if tuple(next(reader)) != COLUMNS:
            msg = f"{path}: the first line must name {', '.join(COLUMNS)}"
            raise ValueError(msg)
        for fields in reader:
            if len(fields) != len(COLUMNS) or not all(fields) or fields[1] in rows[fields[0]]:
                msg = f"{path}:{reader.line_num}: not one row of {len(COLUMNS)} fields for a capture and a kind"
                raise ValueError(msg)
            rows[fields[0]][fields[1]] = Row(*fields[:2], int(fields[2]), int(fields[3]), *fields[4:])
    return dict(rows)


def settle(rows, left):
    """Yield (what, only ours, only tshark's, Row or None) of what no rule explained; a Row counts if its numbers do."""
    for what in dict.fromkeys(what for what, _ in left):
        ours, theirs = left[what, "ours"], left[what, "tshark"]
        row = rows.get(what)
        yield what, ours, theirs, row if row and (row.ours, row.tshark) == (ours, theirs) else None


def as_row(name, what, ours, theirs, row):
    """Return a line of the table for what is not explained; without a row, class and reason are to be written."""
    return "\t".join([name, what, str(ours), str(theirs), *((row.reason_class, row.reason) if row else ("?", "?"))])
