"""--upstream-capture on the command line: repeated, as a glob, from the environment, or refused."""

import json

import pytest
from click.testing import CliRunner

from pcapdiag.cli import main
from tests.conftest import ROOT

pytestmark = pytest.mark.compiled_only

CASE = ROOT / "captures" / "idle_close_race_65s"
FAR = [CASE / f"upstream_{x}.pcap" for x in "abc"]


def run(*arguments, **env):
    result = CliRunner().invoke(main, ["analyze", *map(str, arguments), "--format", "json"], env=env)
    assert result.exit_code == 1, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def repeated():
    return run(CASE / "proxy.pcap", *(word for path in FAR for word in ("--upstream-capture", path)))


def test_the_far_end_may_be_repeated_a_glob_or_the_environment(repeated):
    assert repeated["far_end"]["joined"] == 27
    by_glob = run(CASE / "proxy.pcap", "--upstream-capture", CASE / "upstream_?.pcap")
    by_environment = run(CASE / "proxy.pcap", PCAPDIAG_UPSTREAM_CAPTURE=":".join(map(str, FAR)))
    assert repeated == by_glob == by_environment


def test_the_far_end_is_listed_among_inputs_and_captures_and_not_in_totals(repeated):
    alone = run(CASE / "proxy.pcap")
    assert alone["far_end"] is None
    assert repeated["totals"] == alone["totals"]
    assert [i["kind"] for i in repeated["inputs"]] == ["capture"] * 4
    assert all(i["bytes"] > 0 for i in repeated["inputs"])
    assert [c["capture_point"] for c in repeated["captures"]] == ["proxy", *["upstream"] * 3]
    assert sum(c["frames"] for c in repeated["captures"]) > repeated["totals"]["frames"] == 359


def test_a_far_end_that_does_not_exist_ends_the_job():
    result = CliRunner().invoke(main, ["analyze", str(CASE / "proxy.pcap"), "--upstream-capture", "none.pcap"])
    assert result.exit_code == 2
    assert "none.pcap" in result.stderr
