"""Golden comparisons, one file per pair and format. After a wanted change: pytest tests/compare --update-golden."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from pcapdiag.base.version import __version__
from pcapdiag.cli import main
from tests.conftest import ROOT

GOLDEN = Path(__file__).parent / "golden"
SUFFIXES = {"terminal": "txt", "markdown": "md", "json": "json"}
PAIRS = {
    "the_proxy_closes_first": ("idle_close_race_before", "proxy_timeout_shorter"),
    "nobody_can_tell": ("idle_close_race_before", "healthy_keepalive"),
}


@pytest.mark.parametrize("format_", SUFFIXES)
@pytest.mark.parametrize("name", PAIRS)
def test_the_comparison_is_the_one_that_was_approved(name, format_, monkeypatch, update_golden):
    monkeypatch.chdir(ROOT)
    paths = [f"captures/{case}/proxy.pcap" for case in PAIRS[name]]
    result = CliRunner().invoke(main, ["compare", *paths, "--format", format_], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    text = result.stdout.replace(f'"version": "{__version__}"', '"version": "*"')
    golden = GOLDEN / f"{name}.{SUFFIXES[format_]}"
    if update_golden:
        golden.write_text(text)
    assert text == golden.read_text()


def test_every_golden_file_belongs_to_a_pair():
    assert {path.name for path in GOLDEN.iterdir()} == {f"{n}.{suffix}" for n in PAIRS for suffix in SUFFIXES.values()}
