"""Exchanges as Parquet, held against the tables they come from."""

import io
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest

import pcapdiag
from pcapdiag.base.codes import Leg
from pcapdiag.base.errors import ScanError
from pcapdiag.nightly.scan.exchanges import write_exchanges

CAPTURES = Path(__file__).resolve().parents[3] / "captures"
pytestmark = pytest.mark.compiled_only


@pytest.fixture(scope="module")
def analysis():
    return pcapdiag.analyze(CAPTURES / "idle_close_race_65s" / "proxy.pcap").analysis


def write(analysis, *, after_ns=-1, until_ns=-1, redact=True, staging=""):
    return write_exchanges(analysis, "key", after_ns=after_ns, until_ns=until_ns, redact=redact, staging=staging)


def rows_of(details):
    return pd.concat([pd.read_parquet(io.BytesIO(d.content)) for d in details], ignore_index=True)


def upstream_times(analysis):
    rows = analysis.exchanges.chunks()
    return sorted(
        int(ts)
        for chunk in rows
        for ts, conn in zip(chunk["request_ts_ns"], chunk["conn"], strict=True)
        if ts >= 0 and analysis.legs[conn] != Leg.CLIENT
    )


def test_each_exchange_with_an_upstream_is_written_once(analysis):
    details = write(analysis)
    assert sorted(rows_of(details)["request_ts_ns"]) == upstream_times(analysis) != []
    assert [d.name for d in details] == sorted(d.name for d in details)
    assert all(d.n_bytes == len(d.content) for d in details)


def test_a_file_holds_one_day_and_one_upstream(analysis):
    for detail in write(analysis):
        date, upstream, name = detail.name.split("/")
        rows = rows_of([detail])
        assert set(rows["resp"]) == {unquote(upstream.removeprefix("upstream="))}
        assert {f"date={ts.date()}" for ts in rows["request_ts"]} == {date}
        assert name == "key-0.parquet"


def test_bounds_leave_out_what_lies_before_and_keep_the_last(analysis):
    times = upstream_times(analysis)
    first, last = times[2], times[-3]
    assert sorted(rows_of(write(analysis, after_ns=first, until_ns=last))["request_ts_ns"]) == [
        ts for ts in times if first < ts <= last
    ]


def test_nothing_that_counts_is_no_file(analysis):
    assert write(analysis, after_ns=upstream_times(analysis)[-1]) == ()


def test_staged_files_hold_the_same_and_are_private(analysis, tmp_path):
    staged = write(analysis, staging=str(tmp_path / "staging"))
    assert [(d.name, d.n_bytes) for d in staged] == [(d.name, d.n_bytes) for d in write(analysis)]
    for detail in staged:
        status = Path(detail.staged).stat()
        assert (status.st_size, status.st_mode & 0o077) == (detail.n_bytes, 0)


def test_a_folder_that_cannot_be_made_is_named(analysis, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ScanError, match="--exchanges"):
        write(analysis, staging=str(tmp_path / "file"))
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
