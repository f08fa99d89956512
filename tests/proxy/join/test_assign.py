"""The assignment against all possible ones."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.proxy.join.assign import EQUAL, MATCH, align


def knots(costs):
    """Return a label for every pair: the same for pairs that share an entry or a try, directly or by way of others."""
    label = {pair: n for n, pair in enumerate(costs)}
    for _ in costs:
        for a in costs:
            for b in costs:
                if a[0] == b[0] or a[1] == b[1]:
                    label[a] = label[b] = min(label[a], label[b])
    return label


def all_alignments(costs, n_entry, n_try):
    """Yield (worth, pairs) of every set of pairs of which no two of one knot cross."""
    label = knots(costs)
    for n in range(min(n_entry, n_try) + 1):
        for chosen in combinations(sorted(costs), n):
            if all(
                a[0] != b[0] and a[1] != b[1] and (label[a] != label[b] or (a[0] < b[0]) == (a[1] < b[1]))
                for a, b in combinations(chosen, 2)
            ):
                yield sum(MATCH - costs[p] for p in chosen), dict(chosen)


tables = st.dictionaries(st.tuples(st.integers(0, 3), st.integers(0, 3)), st.sampled_from([0, 0, 5, 20]), max_size=9)


@given(tables)
def test_a_choice_is_what_all_best_alignments_agree_on(costs):
    options = list(all_alignments(costs, 4, 4))
    best = max(worth for worth, _ in options)
    good = [pairs for worth, pairs in options if worth >= best - EQUAL]
    choices = align(costs).choices
    assert set(choices) == {entry for entry, _ in costs}
    for entry, choice in choices.items():
        partners = {pairs.get(entry, -1) for pairs in good}
        assert choice.chosen == (partners.pop() if len(partners) == 1 else -1)
        assert set(choice.candidates) == {pairs[entry] for pairs in good if entry in pairs}


def test_as_many_entries_as_tries_pair_up_in_order():
    costs = {(e, t): 0 for e in range(3) for t in range(3)}
    assert [align(costs).choices[e].chosen for e in range(3)] == [0, 1, 2]


def test_fewer_entries_than_like_tries_leave_it_open():
    choice = align({(0, 0): 0, (0, 1): 0}).choices[0]
    assert choice.chosen == -1
    assert choice.candidates == (0, 1)


def test_a_knot_too_large_to_untie_is_left_open(monkeypatch):
    monkeypatch.setattr("pcapdiag.proxy.join.assign.MOST_CELLS", 3)
    choices, doubtful = align({(e, t): 0 for e in range(2) for t in range(2)})
    assert {c.chosen for c in choices.values()} == {-1}
    assert choices[0].candidates == (0, 1)
    assert doubtful == {0, 1}
