"""What may be called confirmed: the table that bounds it is what the program is worth today."""

import pytest

from pcapdiag.base.codes import Protocol
from pcapdiag.base.findings import Confidence
from pcapdiag.rules import _precision
from pcapdiag.rules._precision import Precision, most_certain, precision
from tests import precision as counting


def test_the_table_names_rules_and_protocols():
    names = {p.name.lower() for p in Protocol} | {"tcp", "any"}
    assert {protocol for _, protocol in precision()} <= names


@pytest.mark.parametrize(
    ("judged", "most"),
    [
        (Precision(10, 0, 0), Confidence.CONFIRMED),
        (Precision(9, 0, 0), Confidence.LIKELY),
        (Precision(19, 1, 0), Confidence.CONFIRMED),
        (Precision(18, 0, 2), Confidence.LIKELY),
        (Precision(0, 0, 0), Confidence.LIKELY),
    ],
)
def test_confirmed_needs_ten_judged_claims_of_which_95_percent_are_true(monkeypatch, judged, most):
    monkeypatch.setattr(_precision, "precision", lambda: {("PD101", "http1"): judged})
    assert most_certain("PD101", "http1") == most


def test_what_was_never_judged_is_likely_at_most():
    assert most_certain("PD101", "no such protocol") == Confidence.LIKELY


@pytest.mark.corpus
@pytest.mark.compiled_only
@pytest.mark.whole
def test_the_table_is_what_the_program_is_worth(tmp_path, corpus):
    """Made anew from all captures whose truth is known, it is the same."""
    assert corpus.is_dir()
    counting.write(tmp_path / "table.tsv")
    assert (tmp_path / "table.tsv").read_text() == counting.TABLE.read_text()
