"""One log for captures of many nights: every entry counts once, in the night whose packets show what lies behind it."""

import pytest

import pcapdiag
from pcapdiag.analysis.inputs import Inputs
from pcapdiag.nightly.scan.model import ReadOptions, ScanOptions
from pcapdiag.nightly.scan.run import run_scan
from pcapdiag.nightly.store.store import Store
from tests.test_lab_logs import cut_in_two

pytestmark = [pytest.mark.lab, pytest.mark.compiled_only]


@pytest.mark.parametrize(("case", "part", "is_series"), [("a_big", 0.4, True), ("h_connect_fail", 0.7, False)])
def test_entries_of_two_nights_add_up_to_those_of_one_capture(lab, tmp_path, case, part, is_series):
    log = str(lab / case / "proxy" / "error.log")
    whole = pcapdiag.analyze(lab / case / "proxy.pcap", error_logs=[log]).report
    wanted = {f.code: f.count for f in whole.findings if f.code == "PD601"}
    assert wanted
    (tmp_path / "cut").mkdir()
    names = ("ring_00000.pcap", "ring_00001.pcap") if is_series else ("first/proxy.pcap", "second/proxy.pcap")
    for half, name in zip(cut_in_two(lab / case / "proxy.pcap", part, tmp_path / "cut"), names, strict=True):
        target = tmp_path / "captures" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        half.rename(target)
        with Store(str(tmp_path / "store.db"), details=str(tmp_path / "exchanges")) as store:
            options = ReadOptions(Inputs(error_logs=(log,)), exchanges=False)
            summary = run_scan(store, ScanOptions((str(tmp_path / "captures"),), options, jobs=1))
    assert summary.totals.read == 1
    counted = {f.code: 0 for f in summary.findings}
    for finding in summary.findings:
        counted[finding.code] += finding.count
    assert counted["PD601"] == wanted["PD601"]
