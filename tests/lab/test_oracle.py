"""What the live lab takes for the truth, held against the truth of recordings that was found otherwise."""

import pytest

from tests.lab.oracle import Wire
from tests.lab_truth import scenarios, truth_of

pytestmark = pytest.mark.lab

# Elsewhere requests are inside TLS, without an id (FastCGI), or the capture ends with them on the way.
COMPARED = (
    "a_idle_race",
    "c2_middlebox_drop",
    "c3_middlebox_rst",
    "d1_worker_exit",
    "h_connect_fail",
    "k_loss_reorder",
)
SAME = {"open_at_capture_end": "never_acked", "syn_unanswered": "syn_unanswered"}


@pytest.mark.parametrize("scenario", COMPARED)
def test_the_oracle_finds_what_was_lost(lab, tshark, scenario):  # noqa: ARG001 - skips without tshark
    assert scenario in scenarios()
    wire = Wire(lab / scenario / "proxy.pcap", rb"(?<=X-Request-Id: )[0-9a-f]{32}")
    found = sorted((lost.frame, lost.kind) for lost in wire.lost)
    truth = truth_of(scenario)["unanswered"]
    assert found == sorted((entry["req_frame"], SAME.get(entry["kind"], entry["kind"])) for entry in truth)
