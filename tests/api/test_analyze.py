"""The Python API: the same report as on the command line, and its tables as DataFrames."""

import doctest
import json

import pandas as pd
import pytest

import pcapdiag
from tests.conftest import ROOT

RACE = ROOT / "captures" / "idle_close_race_ipv6" / "proxy.pcap"


@pytest.fixture(scope="module")
def result():
    return pcapdiag.analyze(RACE)


def test_the_report_is_that_of_the_command_line(cli, result):
    assert result.to_json() == json.loads(cli("analyze", RACE, "--format", "json").stdout)
    assert result.to_markdown() == cli("analyze", RACE, "--format", "markdown").stdout
    assert result.to_text() == cli("analyze", RACE).stdout


def test_the_headline_is_one_sentence(result):
    assert result.headline.startswith("8 of 53 requests got no answer: ")
    assert result.headline in repr(result)


@pytest.mark.parametrize(
    ("name", "n_rows", "columns"),
    [
        ("exchanges", 53, {"request_frame", "idle_before_ns", "target", "outcome"}),
        ("closings", None, {"first_closer", "closing_kind", "idle_at_close_ns"}),
        ("connections", None, {"uid", "orig", "resp", "conn_state"}),
        ("findings", None, {"code", "subject", "count", "message"}),
        ("occurrences", 8, {"code", "request_frame", "idle_before_ns"}),
        ("upstreams", 3, {"endpoint", "idle_timeout_ns.value", "near_misses"}),
        ("verdicts", None, {"code", "verdict", "reason"}),
    ],
)
def test_every_table_is_a_frame(result, name, n_rows, columns):
    frame = getattr(result, name)
    assert isinstance(frame, pd.DataFrame)
    assert columns <= set(frame.columns)
    assert len(frame) == n_rows or (n_rows is None and len(frame))


def test_gaps_stay_integers_to_the_nanosecond(result):
    assert result.exchanges["idle_before_ns"].dtype == "int64"


def test_codes_and_addresses_can_be_chosen():
    chosen = pcapdiag.analyze(str(RACE), ignore=["PD101"])
    assert "PD101" not in {f.code for f in chosen.report.findings}
    assert chosen.headline == "8 of 53 requests got no answer: their causes are not shown."
    with pytest.raises(pcapdiag.UsageError, match="not an IP address"):
        pcapdiag.analyze(RACE, proxies=["here"])
    with pytest.raises(pcapdiag.CaptureError):
        pcapdiag.analyze(RACE.parent / "none.pcap")


def test_progress_is_told():
    calls = []
    pcapdiag.analyze(RACE, on_progress=lambda *numbers: calls.append(numbers))
    assert calls[-1][0] == calls[-1][1] == RACE.stat().st_size
    assert calls[-1][2] == pcapdiag.analyze(RACE).report.totals.frames


def test_public_names_are_those_that_are_listed():
    assert dir(pcapdiag) == sorted(pcapdiag.__all__)
    assert all(getattr(pcapdiag, name) for name in pcapdiag.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        pcapdiag.nothing  # noqa: B018 - looking it up is what fails


EXPLAINED = ["CaptureReport", "PcapdiagError", "analyze", "compare_reports", "what_if"]
"""What a caller calls; of the errors only that which catches them all."""


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPLAINED)
def test_each_public_name_has_an_example_that_is_true(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    thing = getattr(pcapdiag, name)
    finder = doctest.DocTestFinder(recurse=False)
    (example,) = finder.find(thing, name, module=False, globs={})
    assert example.examples != []
    told = []
    results = doctest.DocTestRunner(verbose=False).run(example, out=told.append)
    assert results.failed == 0, "".join(told)


def test_every_public_name_is_explained_by_an_example_or_is_an_error():
    others = {name: getattr(pcapdiag, name) for name in set(pcapdiag.__all__) - {*EXPLAINED, "__version__"}}
    assert [name for name, thing in others.items() if not issubclass(thing, pcapdiag.PcapdiagError)] == []


@pytest.mark.slow
def test_captures_may_be_one_or_many_texts_or_paths(result):
    for captures in ((str(RACE),), (RACE,), ([str(RACE)],), ((RACE,),), ([RACE, str(RACE)],), (iter([RACE]),)):
        assert pcapdiag.analyze(*captures).headline == result.headline, captures


def test_one_alone_is_one_and_not_its_letters(result):
    """An upstream, a code, a log: a list with one in it means the same."""
    upstream = result.report.upstreams[0].endpoint
    log = ROOT / "captures" / "idle_close_race_65s" / "error.log"
    alone = pcapdiag.analyze(RACE, upstreams=upstream, select="PD101", error_logs=str(log))
    listed = pcapdiag.analyze([RACE], upstreams=[upstream], select=["PD101"], error_logs=[log])
    assert alone.to_json() == listed.to_json()
    assert [finding.code for finding in alone.report.findings] == ["PD101"] * len(alone.report.findings) != []
