"""What the README shows is what the program prints."""

import re
from pathlib import Path

from click.testing import CliRunner

from pcapdiag.cli import main

ROOT = Path(__file__).resolve().parent.parent
SHOWN = "captures/idle_close_race_65s/proxy.pcap"


def test_the_report_in_the_readme_is_the_real_one_shortened():
    """Every line of it stands in the report of the demo's capture, in the same order."""
    blocks = re.findall(r"```text\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 1
    result = CliRunner().invoke(main, ["analyze", str(ROOT / SHOWN), "--width", "100"])
    assert result.exit_code == 1, result.output
    lines = iter(result.stdout.splitlines())
    shown = [line for line in blocks[0].splitlines() if line.strip() != "..."]
    assert len(shown) > 30
    missing = [line for line in shown if line not in lines]
    assert not missing
