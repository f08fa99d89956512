"""What `pcapdiag.analyze` returns: the same findings in every form."""

import json
import zipfile
from pathlib import Path

import pytest

import pcapdiag
from pcapdiag.base.errors import UsageError

CAPTURES = Path(__file__).resolve().parents[2] / "captures"
pytestmark = pytest.mark.compiled_only


@pytest.fixture(scope="module")
def report():
    return pcapdiag.analyze(CAPTURES / "idle_close_race_65s" / "proxy.pcap")


def test_its_name_is_its_verdict(report):
    assert repr(report) == f"<CaptureReport: {report.headline}>"
    assert "PD101" in report.headline


def test_every_form_begins_with_the_verdict(report):
    number = report.headline.split()[0]
    for text in (report.to_text(), report.to_markdown(), report.to_html(), report._repr_html_()):
        assert number in text
        assert "PD101" in text


def test_the_json_can_be_written_as_it_is(report):
    plain = report.to_json()
    assert json.loads(json.dumps(plain)) == plain


def test_frames_have_a_row_for_each_thing_that_was_found(report):
    plain = report.to_json()
    assert list(report.findings["code"]) == [f["code"] for f in plain["findings"]]
    assert len(report.occurrences) == sum(len(f["occurrences"]) for f in plain["findings"])
    assert len(report.verdicts) == len(plain["verdicts"])
    assert len(report.upstreams) == len(plain["upstreams"])
    assert len(report.exchanges) == sum(map(len, report.exchange_chunks())) > 0
    assert len(report.connections) >= len(report.closings) > 0
    assert [f.code for f in report.found] == [f["code"] for f in plain["findings"]]


def test_columns_without_what_is_nested(report):
    assert "occurrences" not in report.findings
    assert "evidence" not in report.occurrences


def test_a_text_can_be_the_page_or_the_whole(report):
    page, whole = report.to_text(), report.to_text(show=None)
    assert len(whole) > len(page)
    assert max(map(len, report.to_text(width=80).splitlines())) <= 80


def test_a_bundle_is_the_same_each_time_and_no_file_is_overwritten(report, tmp_path):
    for name in ("a.zip", "b.zip"):
        report.write_bundle(tmp_path / name)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert {"report.html", "evidence.pcapng"} <= set(zipfile.ZipFile(tmp_path / "a.zip").namelist())
    with pytest.raises(UsageError, match="exists"):
        report.write_bundle(tmp_path / "a.zip")
    report.write_bundle(tmp_path / "a.zip", force=True)
