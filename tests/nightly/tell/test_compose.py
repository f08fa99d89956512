"""The message about a night."""

from pcapdiag.base.findings import Confidence, Severity
from pcapdiag.nightly.store.model import FindingRow, FindingState
from pcapdiag.nightly.tell.compose import compose


def row(state, day="2026-11-20", *, subject="10.0.0.1:80", count=7, last=2):
    return FindingRow(
        *("PD101/a", "PD101", "race", "Race", subject, Severity.ERROR, Confidence.CONFIRMED, "It closes."),
        *(count, count, 0, 1, state, day, last, "key"),
    )


def test_the_title_counts_what_is_new_worse_and_made_good_and_names_the_last_day():
    states = (FindingState.NEW, FindingState.ONGOING, FindingState.NEW)
    rows = [row(FindingState.WORSE, "2026-11-21"), *map(row, states)]
    assert compose(rows, lambda _: "").title == "pcapdiag: 2 new, 1 worse, 1 not told before (2026-11-21)"


def test_a_finding_has_its_words_its_numbers_and_its_page():
    message = compose([row(FindingState.NEW)], lambda _: "https://site/findings/x.html")
    assert message.body.splitlines() == [
        "NEW: PD101 race 10.0.0.1:80",
        "It closes.",
        "2 times on 2026-11-20, 7 in all",
        "https://site/findings/x.html",
    ]
    assert len(compose([row(FindingState.NEW)], lambda _: "").body.splitlines()) == 3


def test_what_a_capture_named_calls_nobody():
    assert "@" not in compose([row(FindingState.NEW, subject="@channel <!here>")], lambda _: "").body
