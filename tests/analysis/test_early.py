"""Early answers are losses where the log says so, and no others."""

from pathlib import Path

import pcapdiag

CASES = Path(__file__).parents[2] / "captures"


def losses_of(name, *logs):
    folder = CASES / name
    analysis = pcapdiag.analyze(folder / "proxy.pcap", error_logs=[str(folder / log) for log in logs]).analysis
    return len(analysis.losses), len(analysis.early)


def test_without_a_log_nobody_knows():
    assert losses_of("fastcgi_early_answer") == (0, 1)


def test_the_log_says_that_the_answer_was_lost():
    assert losses_of("fastcgi_early_answer", "error.log") == (1, 0)


def test_a_log_that_nothing_ties_to_the_capture_is_no_testimony(tmp_path):
    log = tmp_path / "error.log"
    log.write_text("2026/11/03 09:00:00 [notice] 31#31: signal process started\n")
    case = CASES / "fastcgi_early_answer" / "proxy.pcap"
    report = pcapdiag.analyze(case, error_logs=[str(log)])
    assert not report.analysis.losses
    assert [f.code for f in report.found if f.severity] == ["PD207"]
    assert [f.severity.name for f in report.found if f.code == "PD207"] == ["WARNING"]
