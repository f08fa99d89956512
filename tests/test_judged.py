"""Captures of the world whose frames were read one by one: what a report must not claim of them, and what it must hold.

`tests/judged/judged.tsv` has a row for each: `must_not` holds codes, with ``:error`` only as an error, with ``:http``
only where HTTP is meant; `must` holds ``CODE>=n``, ``answered:n``, ``findings<=n``; `why` names the frames.
"""

import csv
import re
from collections import Counter

import pytest

import pcapdiag
from tests.conftest import ROOT

pytestmark = [pytest.mark.corpus, pytest.mark.compiled_only]
FOLDER = ROOT / "tests" / "judged"
with (FOLDER / "judged.tsv").open(newline="") as _file:
    ROWS = list(csv.DictReader(_file, delimiter="\t", quoting=csv.QUOTE_NONE))
MUST_NOT = re.compile(r"PD\d{3}(:error|:http)?")
MUST = re.compile(r"PD\d{3}>=\d+|findings<=\d+|answered:\d+")


def problems_of(report, row):
    """Return what of a row does not hold."""
    counts = Counter()
    for finding in report["findings"]:
        code = finding["code"]
        counts[code] += finding["count"]
        counts[f"{code}:http"] += sum(bool(o["method"]) for o in finding["occurrences"])
        counts[f"{code}:error"] += finding["count"] * (finding["severity"] == "error")
    problems = [f"{item} x{counts[item]}" for item in filter(None, row["must_not"].split(",")) if counts[item]]
    for item in filter(None, row["must"].split(",")):
        name, limit = re.split(r">=|<=|:", item)
        totals = report["totals"]
        if name == "findings":
            is_so = len(report["findings"]) <= int(limit)
        elif name == "answered":
            is_so = not totals["unanswered"] and totals["exchanges"] >= int(limit)
        else:
            is_so = counts[name] >= int(limit)
        problems += [] if is_so else [f"not {item}"]
    return problems


def test_the_table_is_one_that_can_be_held_against_a_report():
    assert len({row["capture"] for row in ROWS}) == len(ROWS)
    for row in ROWS:
        assert all(MUST_NOT.fullmatch(item) for item in filter(None, row["must_not"].split(","))), row
        assert all(MUST.fullmatch(item) for item in filter(None, row["must"].split(","))), row
        assert row["must_not"] or row["must"], row
        assert len(row["why"]) > 20, row


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["capture"])
def test_a_report_claims_what_the_frames_show(row, corpus):
    report = pcapdiag.analyze(corpus / row["capture"]).to_json()
    assert problems_of(report, row) == [], row["why"]
