"""Golden reports: one file per case and format. After a wanted change: pytest tests/test_golden.py --update-golden."""

import pytest
from click.testing import CliRunner

from pcapdiag.base.version import __version__
from pcapdiag.cli import main
from tests.conftest import ROOT

GOLDEN = ROOT / "tests" / "golden"
FORMS = {
    "txt": ("--format", "terminal"),
    "whole.txt": ("--format", "terminal", "-v"),
    "md": ("--format", "markdown"),
    "json": ("--format", "json"),
    "jira.txt": ("--format", "jira"),
    "slack.txt": ("--format", "slack"),
}
CASES = {
    "capture_ends_while_waiting": "capture.pcap",
    "connect_refused_and_timeout": "proxy.pcap",
    "healthy_keepalive": "proxy.pcap",
    "idle_close_race_65s": "proxy.pcap",
    "idle_close_race_ipv6": "proxy.pcap",
    "idle_closes_without_race": "proxy.pcap",
    "reuse_after_fin": "capture.pcap",
    "silent_drop_on_reuse": "proxy.pcap",
}
FAR_ENDS = {"idle_close_race_65s": "upstream_?.pcap"}


@pytest.mark.parametrize("suffix", FORMS)
@pytest.mark.parametrize("case", CASES)
def test_the_report_is_the_one_that_was_approved(case, suffix, monkeypatch, update_golden):
    monkeypatch.chdir(ROOT)
    arguments = ["analyze", f"captures/{case}/{CASES[case]}", *FORMS[suffix], "--fail-on", "never"]
    if case in FAR_ENDS:
        arguments += ["--upstream-capture", f"captures/{case}/{FAR_ENDS[case]}"]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    report = result.stdout.replace(f'"version": "{__version__}"', '"version": "*"')
    golden = GOLDEN / f"{case}.{suffix}"
    if update_golden:
        golden.write_text(report)
    assert report == golden.read_text()


def test_every_golden_file_belongs_to_a_case():
    expected = {f"{case}.{suffix}" for case in CASES for suffix in FORMS}
    assert {path.name for path in GOLDEN.iterdir()} == expected
