"""From one recording of the lab alone the model foretells the others, in which settings were different."""

import json

import pytest

from pcapdiag.analysis.inputs import Inputs
from pcapdiag.api.analyze import analyze_captures
from pcapdiag.api.whatif import groups_of
from pcapdiag.whatif.compute import compute
from pcapdiag.whatif.keys import parse_case

pytestmark = pytest.mark.compiled_only

CASES = {
    "a_before": {
        "m1_proxy_shorter": "proxy.keepalive_timeout=3s",
        "m1b_proxy_slightly_shorter": "proxy.keepalive_timeout=3900ms",
        "m2_backup": "backup=10.1.1.3:80",
        "m2_max_fails0": "max_fails=0",
        "m2_max_fails10": "max_fails=10",
        "m3_max_fails0_non_idempotent": "max_fails=0 next_upstream=error,timeout,non_idempotent",
        "m4_next_upstream_off": "next_upstream=off",
    },
    "a_big": {"a_big_mf0": "max_fails=0"},
}
COUNTS = {"races_fin": "lost_tries", "c502": "client_502"}
FEWEST_RIGHT = 13


@pytest.fixture(scope="module")
def predictions(lab):
    """Return for each number of each recording what really was, and what the model says."""
    found = {}
    for source, cases in CASES.items():
        folder = lab / source
        logs = {"error_logs": (str(folder / "proxy/error.log"),), "access_logs": (str(folder / "proxy/access.log"),)}
        inputs = Inputs(**logs, proxy_conf=str(folder / "proxy/nginx.conf"))
        groups = groups_of(analyze_captures([str(folder / "proxy.pcap")], inputs), inputs)
        answer = compute(groups, [parse_case(text) for text in cases.values()])
        assert answer.disagreement == ""
        for name, scenario in zip(cases, answer.scenarios[2:], strict=True):
            truth = json.loads((lab / name / "truth.json").read_text())["truth"]
            for what, field in COUNTS.items():
                found[name, what] = truth[what], getattr(scenario, field)
    return found


def test_most_numbers_lie_in_their_intervals(predictions):
    missed = {key: pair for key, pair in predictions.items() if not pair[1].low <= pair[0] <= pair[1].high}
    assert len(predictions) == 16
    assert len(predictions) - len(missed) >= FEWEST_RIGHT, missed


def test_no_number_is_off_by_more_than_the_width_of_its_interval(predictions):
    far = {
        key: (truth, told)
        for key, (truth, told) in predictions.items()
        if not 2 * told.low - told.high <= truth <= 2 * told.high - told.low
    }
    assert far == {}


def test_intervals_are_narrow(predictions):
    wide = {key: told for key, (_, told) in predictions.items() if told.high - told.low > max(6, told.expected)}
    assert wide == {}


def test_where_nothing_can_be_lost_nothing_is_foretold(predictions):
    for what in COUNTS:
        _, told = predictions["m1_proxy_shorter", what]
        assert (told.low, told.high) == (0, 0)
