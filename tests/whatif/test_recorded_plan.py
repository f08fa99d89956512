"""From a recording under one setting the model foretells what was recorded under others; see recorded/README.md."""

from pathlib import Path

import pytest

from pcapdiag.analysis.inputs import Inputs
from pcapdiag.api.analyze import analyze_captures
from pcapdiag.api.whatif import groups_of
from pcapdiag.whatif.compute import compute
from pcapdiag.whatif.keys import parse_case

pytestmark = pytest.mark.compiled_only

FOLDER = Path(__file__).parent / "recorded"
SEEN = {
    "max_fails=0": (22, 7),
    "max_fails=0 next_upstream=error,timeout,non_idempotent": (23, 0),
    "max_fails=1 next_upstream=error,timeout,non_idempotent": (21, 30),
    "max_fails=1": (21, 29),
}
"""Lost tries and failed requests of clients, as they were recorded."""


@pytest.fixture(scope="module")
def foretold():
    logs = {"error_logs": (str(FOLDER / "error.log"),), "access_logs": (str(FOLDER / "access.log"),)}
    inputs = Inputs(**logs, proxy_conf=str(FOLDER / "nginx.conf"))
    groups = groups_of(analyze_captures([str(FOLDER / "proxy.pcap.gz")], inputs), inputs)
    observed, _, *scenarios = compute(groups, [parse_case(text) for text in SEEN]).scenarios
    assert (observed.lost_tries.expected, observed.client_failures.expected) == SEEN["max_fails=0"]
    return dict(zip(SEEN, scenarios, strict=True))


@pytest.mark.parametrize("text", SEEN)
def test_what_was_recorded_lies_in_the_intervals_and_they_are_narrow(foretold, text):
    for seen, told in zip(SEEN[text], (foretold[text].lost_tries, foretold[text].client_failures), strict=True):
        assert told.low <= seen <= told.high
        assert told.high - told.low <= max(6, told.expected)
