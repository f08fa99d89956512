"""What is said of a what-if: the answer first, every number with its interval."""

from dataclasses import replace

import pytest

from pcapdiag.base.findings import Change
from pcapdiag.base.scenarios import Quantity, Recommendation, Scenario, UpstreamRate
from pcapdiag.report.render.document import Bullets, TableBlock
from pcapdiag.report.whatif.render import render_markdown, render_terminal
from pcapdiag.report.whatif.words import (
    MOST_POINTS,
    build_blocks,
    headline,
    scenario_grid,
    spell,
    sweep_grid,
    sweep_lines,
)
from tests.report.whatif.builders import KEY, recommended, scenario, whatif


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "?"),
        (Quantity(12, 12, 12), "12"),
        (Quantity(10, 10.8, 13), "11 (10-13)"),
        (Quantity(0, 0.1, 0.4), "0"),
        (Quantity(1_000, 1_234, 1_500), "1,234 (1,000-1,500)"),
    ],
)
def test_a_number_has_its_interval(value, text):
    assert spell(value) == text


def test_a_recommendation_is_the_answer():
    told = headline(recommended({KEY: "3.5s"}))
    assert told == (
        "With proxy.keepalive_timeout=3.5s no request is predicted to be lost; "
        "as captured 12 requests failed and 11 tries were lost."
    )


def test_where_nothing_helps_that_is_said():
    assert headline(recommended({})).startswith("None of the settings that were tried keeps every request")


def test_a_scenario_that_was_asked_for_is_the_answer():
    told = headline(whatif(scenario("max_fails=0", (1, 1.8, 2), (9, 10.1, 14))))
    assert told.startswith("With max_fails=0, which hides it: 2 (1-2) of clients' requests fail, 10 (9-14) tries")


def test_of_several_scenarios_that_were_asked_for_the_best_is_told():
    asked = (scenario("a", 3, 4), scenario("b", 0, 2), scenario("c", 0, 2, bound="lower"))
    told = headline(whatif(*asked))
    assert told.startswith(
        "With b, the best of 3 that were asked for, which loses fewer: 0 of clients' requests fail, 2 tries are lost;"
    )


def test_where_the_replay_loses_nothing_nothing_is_mended():
    answer = whatif(scenario("a", 0, 0))
    observed, _, asked = answer.scenarios
    told = headline(replace(answer, scenarios=(observed, scenario("captured", 0, 0), asked)))
    assert told.startswith("With a: 0 of clients' requests fail")


def test_who_asked_for_nothing_is_told_what_to_ask():
    assert "--recommend" in str(build_blocks(whatif()))
    assert "Next:" not in str(build_blocks(whatif(scenario("a", 3, 4))))


def test_a_bound_is_said_as_a_bound():
    told = whatif(scenario("x", 3, 4, bound="lower"))
    assert "at least 3" in headline(told)
    assert ">= 4" in str(build_blocks(told))


def test_where_replay_and_observation_disagree_that_is_all():
    told = whatif(disagreement="the replay gives 0 to 0 lost tries, and 5 were observed")
    assert headline(told) == "The replay gives 0 to 0 lost tries, and 5 were observed."


def test_a_sweep_is_told_first_by_where_nothing_is_lost():
    told = headline(whatif(swept=[("3s", 0), ("9s", 4)]))
    assert told == (
        "Nothing is lost with proxy.keepalive_timeout at 3s, of the values tried; "
        "as captured 12 requests failed and 11 tries were lost."
    )


def test_where_intervals_hold_fewer_that_is_not_denied_above():
    told = whatif(replace(scenario("a", 1, 1), scattered=("1 to 2 lost tries: 80% of the replays",)))
    assert "Unless said below, nine of ten lie between the numbers in brackets." in str(build_blocks(told))
    assert "Nine of ten replays lie between" in str(build_blocks(whatif(scenario("a", 1, 1))))


def test_a_scenario_of_which_nothing_can_be_said_has_no_row():
    told = whatif(Scenario("asked"), disagreement="the replay gives 0 to 0 lost tries, and 5 were observed")
    assert [row[0] for row in scenario_grid(told).rows] == ["observed", "replayed"]
    swept = replace(told, sweep="proxy.keepalive", first_swept=2)
    assert "Sweep" not in str(build_blocks(swept))


def test_remedies_of_the_field_are_judged():
    tried = (
        scenario("mends", 0, 0),
        scenario("hides", 1, 10),
        scenario("neither", 12, 11),
        scenario("perhaps", 0, 0, bound="lower"),
    )
    (table, _) = (b for b in build_blocks(recommended({KEY: "3s"}, *tried)) if isinstance(b, TableBlock))
    assert [(row[0], row[-1]) for row in table.grid.rows] == [
        ("mends", "mends it"),
        ("hides", "hides it"),
        ("neither", "does not help"),
        ("perhaps", "may mend it"),
    ]


def test_what_belongs_to_a_scenario_stands_beside_it():
    told = whatif(scenario("max_fails=0", 1, 10, warnings=("a server that is down is tried",)))
    assert Bullets(("max_fails=0: a server that is down is tried.",)) in build_blocks(told)


def test_a_sweep_says_where_nothing_is_lost_and_where_the_window_is():
    told = whatif(swept=[("3s", 0), ("3.5s", 0), ("3.9s", 4), ("5s", 11)])
    assert list(sweep_lines(told)) == [
        "Nothing is lost with proxy.keepalive_timeout at 3s to 3.5s, of the values tried.",
        "A request that comes 3.84 s to 4.01 s after the last one on its connection may be lost.",
    ]


def test_of_many_points_some_are_listed_and_both_ends():
    told = whatif(swept=[(f"{n}s", 0) for n in range(1, 1001)])
    rows = sweep_grid(told).rows
    assert len(rows) <= MOST_POINTS + 1
    assert (rows[0][0], rows[-1][0]) == ("1s", "1000s")


def test_a_scenario_is_called_what_an_operator_types_for_it():
    asked = scenario("backup=+10.0.0.1:80 backup=+10.0.0.2:80", 0, 0, settings={"backup": "+10.0.0.1:80 +10.0.0.2:80"})
    assert scenario_grid(whatif(asked)).rows[-1][0] == asked.name
    settings = {"max_fails": "0"}
    told = str(build_blocks(recommended(settings, scenario("max_fails=0", 0, 0, settings=settings))))
    assert "'max_fails=0', '0', '0'" in told


def test_what_the_sweep_says_stands_once():
    (headline_, *others) = (str(b) for b in build_blocks(whatif(swept=[("3s", 0), ("9s", 4)])))
    assert "Nothing is lost with" in headline_
    assert "Nothing is lost with" not in "".join(others)
    beside = whatif(scenario("max_fails=0", 1, 1), swept=[("3s", 0), ("9s", 4)])
    assert str(build_blocks(beside)).count("Nothing is lost with") == 1


def test_what_only_hides_is_not_called_lossless():
    settings = {"max_fails": "0", "next_upstream": "error"}
    told = headline(recommended(settings, scenario("max_fails=0 next_upstream=error", 0, (2, 3, 4), settings=settings)))
    assert told.startswith(
        "With max_fails=0 next_upstream=error no client's request is predicted to fail, though 3 (2-4) tries are lost;"
    )


@pytest.mark.parametrize(
    ("file", "how"),
    [("etc/nginx.conf", "patch -p0"), ("/etc/nginx.conf", "patch -p1 -d /"), ("../nginx.conf", "patch ../nginx.conf")],
)
def test_a_diff_says_what_takes_it(file, how):
    change = Change("nginx", file, 3, "upstream be", "keepalive", "2", "3", "", "", old_is_assumed=False, is_new=False)
    text = f"--- {file}\n+++ {file}\n@@ -3 +3 @@\n-\tkeepalive 2;\n+\tkeepalive 3;\n"
    best = Recommendation({KEY: "3s"}, (change,), patch=text)
    answer = replace(whatif(), recommendation=best)
    assert f"`{how}` takes these lines" in str(build_blocks(answer))
    assert "    -\tkeepalive 2;" in render_terminal(answer).splitlines()
    assert "-\tkeepalive 2;" in render_markdown(answer).splitlines()


def test_what_several_scenarios_have_to_be_known_is_said_once():
    one = replace(scenario("a", 1, 1), warnings=("mind this",), scattered=("1 to 2",))
    two = replace(scenario("b", 2, 2), warnings=("mind this", "and that"))
    lines = [line for b in build_blocks(whatif(one, two)) if isinstance(b, Bullets) for line in b.lines]
    assert lines[:3] == ["a; b: mind this.", "a: 1 to 2.", "b: and that."]


def test_the_race_per_day_stands_beside_its_interval():
    rates = (UpstreamRate("10.0.0.1:80", 0, 0.0, 0.0, 0.75), UpstreamRate("10.0.0.2:80", 40, 28.6, 40.0, 54.5))
    lines = [line for b in build_blocks(replace(whatif(), per_day=rates)) if isinstance(b, Bullets) for line in b.lines]
    said = "with the captured settings: the race takes"
    assert lines[:2] == [
        f"10.0.0.2:80, {said} 40 (29 to 54) per day; 40 of the idle gaps came near it.",
        f"10.0.0.1:80, {said} 0 (0 to 0.8) per day; none of the idle gaps came near it.",
    ]


def test_a_sweep_names_the_stretches_that_lose_nothing_and_what_lies_between_is_none():
    told = whatif(swept=[("1s", 0), ("2s", 0), ("3s", 7), ("4s", 0), ("5s", 2)])
    line = next(sweep_lines(told))
    assert line == "Nothing is lost with proxy.keepalive_timeout at 1s to 2s and 4s, of the values tried."


def test_of_many_points_those_that_lose_most_are_listed():
    told = whatif(swept=[(f"{n}s", 9 if n == 50 else 0) for n in range(1, 100)])
    assert ("50s", "9", "9", "40") in sweep_grid(told).rows


def test_bounds_of_a_sweep_are_marked_and_are_no_promise():
    plain = whatif(swept=[("1s", 0), ("9s", 0), ("10s", 0)])
    bounded = [replace(s, bound="lower", warnings=("nobody knows",)) for s in plain.scenarios[3:]]
    told = replace(plain, scenarios=(*plain.scenarios[:3], *bounded))
    assert sweep_grid(told).rows[1:] == (("9s", ">= 0", ">= 0", ">= 40"), ("10s", ">= 0", ">= 0", ">= 40"))
    assert list(sweep_lines(told))[:2] == [
        "Nothing is lost with proxy.keepalive_timeout at 1s, of the values tried.",
        "With proxy.keepalive_timeout at 9s and at 1 other value the numbers are bounds: nobody knows.",
    ]


def test_a_forecast_that_is_not_what_the_log_shows_says_so_first():
    assert headline(whatif(agrees=False)).startswith("What these assumptions give is not what the log shows: ")


@pytest.mark.parametrize(
    ("lost", "failed", "words"),
    [
        (0, 0, "mends it"),
        (3, 3, "loses fewer"),
        (11, 2, "hides it"),
        (11, 12, "does not help"),
        (20, 30, "does not help"),
    ],
)
def test_a_remedy_is_judged_by_what_the_replay_of_the_captured_settings_loses(lost, failed, words):
    tables = [b for b in build_blocks(recommended({}, scenario("one", failed, lost))) if isinstance(b, TableBlock)]
    assert tables[0].grid.rows[0][-1] == words
