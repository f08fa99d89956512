"""The replayed effect beside a remedy."""

import pytest

import pcapdiag
from pcapdiag.api.effects import _beside_the_change
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

ALSO_TESTS = ("entries",)
BEFORE = ROOT / "captures" / "idle_close_race_before"


def remedies(case, code="PD101", **inputs):
    result = pcapdiag.analyze(case / "proxy.pcap", **inputs)
    return [finding.remedy for finding in result.captured.findings if finding.code == code]


def test_the_remedy_of_a_race_says_what_it_would_have_done():
    texts = remedies(BEFORE, access_logs=[BEFORE / "access.log"], proxy_conf=BEFORE / "nginx.conf")
    assert len(texts) == 3
    for text in texts:
        assert (
            "Replayed with that, of 11 lost tries 0 remain, of 9 requests without a live upstream 0 remain, of 12 "
            in text
        )


def test_keeping_peers_in_rotation_says_what_it_leaves():
    logs = {"access_logs": [BEFORE / "access.log"], "error_logs": [BEFORE / "error.log"]}
    (text,) = remedies(BEFORE, "PD601", proxy_conf=BEFORE / "nginx.conf", **logs)
    # max_fails=0 brings back the requests that found no peer, and cures no race.
    lost, refused, _ = text.split("Replayed with that, ")[1].split(";")[0].split(", ")
    assert lost.startswith("of 11 lost tries ")
    assert not lost.endswith(" 0 remain")
    assert refused == "of 9 requests without a live upstream 0 remain"


def test_where_nothing_was_lost_yet_the_cost_is_said():
    case = ROOT / "captures" / "idle_closes_without_race"
    texts = remedies(case, "PD110", proxy_conf=case / "nginx.conf")
    assert texts
    assert all("Replayed with that, no try is lost; " in text and " more (" in text for text in texts)


def test_without_an_access_log_only_tries_are_counted():
    texts = remedies(BEFORE, proxy_conf=BEFORE / "nginx.conf")
    assert all("Replayed with that, of 11 lost tries 0 remain;" in text for text in texts)


def test_without_a_configuration_nothing_is_replayed():
    assert not any("Replayed" in text for text in remedies(BEFORE, access_logs=[BEFORE / "access.log"]))


def test_where_the_replay_is_not_what_happened_nothing_is_said():
    case = ROOT / "captures" / "race_lost_in_server"
    assert not any("Replayed" in text for text in remedies(case, proxy_conf=case / "nginx.conf"))


@pytest.mark.parametrize(
    ("remedy", "expected"),
    [
        ("Do:\n\n    line\n\nThat is why.\n\nOr else.", "Do:\n\n    line\n\nThat is why.\n\nE\n\nOr else."),
        ("Do:\n\n    line\n\nOr else.", "Do:\n\n    line\n\nE\n\nOr else."),
        ("Do:\n\n    line", "Do:\n\n    line\n\nE"),
        ("Do.", "Do.\n\nE"),
    ],
)
def test_the_effect_stands_behind_the_change_and_its_reason(remedy, expected):
    assert _beside_the_change(remedy, "E") == expected
