"""What takes a capture is refused without one."""

import pytest

from pcapdiag.analysis.inputs import Inputs
from pcapdiag.api.triage import triage_inputs
from pcapdiag.base.errors import LogError, UsageError


@pytest.mark.parametrize(
    "more",
    [{"upstream_captures": ("x.pcap",)}, {"upstream_logs": ("x.log",)}, {"select": ("PD1",)}, {"anonymize": True}],
)
def test_what_takes_a_capture_is_refused(tmp_path, more):
    (tmp_path / "error.log").write_text("")
    with pytest.raises(UsageError, match=r"CAPTURE|capture"):
        triage_inputs(Inputs(error_logs=(str(tmp_path / "error.log"),), **more))


def test_a_log_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(LogError, match="cannot open"):
        triage_inputs(Inputs(error_logs=(str(tmp_path / "none.log"),)))
