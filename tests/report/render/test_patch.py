"""The patch in few words: each change once, at its place; of a remedy what belongs to it."""

import dataclasses

from pcapdiag.base.findings import Change, Exposure
from pcapdiag.report.remedy import split_blocks
from pcapdiag.report.render.patch import MOST_LINES, changes_of, in_few_words, patch_lines
from pcapdiag.report.summary import FindingGroup
from tests.report import builders

CHANGE = Change(
    proxy="nginx",
    file="nginx.conf",
    line=12,
    where="upstream be",
    setting="keepalive_timeout",
    old="300s",
    new="3s",
    old_text="keepalive_timeout 300s;",
    text="keepalive_timeout 3s;",
    old_is_assumed=False,
    is_new=False,
)
REMEDY = (
    "Do this:\n\n    keepalive_timeout 3s;\n\nThat is below T.\n\nReplayed with that, nothing is lost.\n\nElse wait."
)


def group(**changes):
    findings = tuple(dataclasses.replace(f, **changes) for f in builders.race_report().findings)
    return FindingGroup(findings)


def test_a_change_has_its_place_what_goes_and_what_comes():
    lines = list(patch_lines([CHANGE], more="-v"))
    assert lines == ["nginx.conf:12, upstream be", "-keepalive_timeout 300s;", "+keepalive_timeout 3s;"]


def test_changes_of_one_place_stand_together_and_very_many_are_counted():
    two = dataclasses.replace(CHANGE, setting="x", old_text="", text="x 1;")
    assert list(patch_lines([CHANGE, two], more="-v")).count("nginx.conf:12, upstream be") == 1
    many = [dataclasses.replace(CHANGE, line=n) for n in range(1, MOST_LINES + 4)]
    assert list(patch_lines(many, more="below"))[-1] == "and 3 more: below"


def test_each_change_is_there_once():
    assert changes_of(group(changes=(CHANGE, CHANGE))) == [CHANGE]


def test_of_a_race_the_change_speaks_with_what_it_would_have_done():
    blocks = in_few_words(group(changes=(CHANGE,), exposure=Exposure.RACE), split_blocks(REMEDY))
    assert [b.lines[0] for b in blocks] == ["keepalive_timeout 3s;", "Replayed with that, nothing is lost."]


def test_of_another_cause_the_words_on_which_it_depends_stay():
    blocks = in_few_words(group(changes=(CHANGE,), exposure=Exposure.REQUEST), split_blocks(REMEDY))
    assert [b.lines[0] for b in blocks] == ["Do this:", "keepalive_timeout 3s;", "That is below T."]


def test_without_a_change_the_first_words_of_the_remedy_stay():
    assert len(in_few_words(group(changes=()), split_blocks(REMEDY))) == 2
