"""Recorded logs: of the lab, where the configuration gives the format, and of other projects."""

import re
from collections import Counter

import pytest

from pcapdiag.proxy.logs.access_log import read_access_log
from pcapdiag.proxy.logs.entries import LogKind
from pcapdiag.proxy.logs.error_log import read_error_log
from pcapdiag.proxy.logs.upstream_log import read_upstream_log

ACCESS_SAMPLES = {
    # file below the corpus: lines that hold a request, other lines
    "Cheng-Bin+openresty-tutorial/nginx/logs/access.log": (90, 0),
    "elastic+beats/filebeat/module/nginx/ingress_controller/test/test.log.excerpt": (7, 0),
    "tstack+lnav/test/logfile_access_log.0": (3, 0),
    "tstack+lnav/test/logfile_access_log.1": (1, 0),
    "tstack+lnav/test/logfile_access_log_dupe.0": (3, 0),
    "tstack+lnav/test/logfile_regexp_access_log.0": (2, 0),
    "tstack+lnav/test/logfile_syslog_with_access_log.0": (2, 3),
}
HEAD = re.compile(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[", re.MULTILINE)


@pytest.mark.lab
def test_every_error_log_of_the_lab_is_read_without_rest(lab):
    kinds = Counter()
    for path in sorted(lab.glob("*/proxy/error.log")):
        log = read_error_log(str(path))
        entries = list(log)
        assert log.counts.n_unparsed == 0, path
        assert len(entries) == log.counts.n_lines, path
        assert not [e for e in entries if e.concerns_upstream and e.kind == LogKind.OTHER], path
        for entry in entries:
            kinds[entry.kind] += 1
            assert entry.pid > 0
            if entry.concerns_upstream:
                assert entry.log_conn > 0
                assert entry.method in {"GET", "POST"}
                assert entry.target.startswith("/")
                assert (
                    entry.upstream_peer == "be"
                    if entry.kind == LogKind.NO_LIVE_UPSTREAMS
                    else ":" in entry.upstream_peer
                )
    assert kinds[LogKind.NO_LIVE_UPSTREAMS] == 951
    assert kinds[LogKind.PREMATURE_CLOSE] == 318


@pytest.mark.lab
def test_every_access_log_of_the_lab_is_read_by_its_configuration(lab):
    """Every entry of an upstream belongs to a connection of the access log, unless the capture's end came first."""
    for path in sorted(lab.glob("*/proxy/access.log")):
        form = re.search(r"log_format lab .*?;", path.with_name("nginx.conf").read_text())[0]
        log = read_access_log(str(path), form)
        entries = list(log)
        assert (log.counts.n_unparsed, len(entries)) == (0, log.counts.n_lines), path
        for entry in entries:
            assert entry.ts_width_ns == 10**6
            assert len(entry.request_id) == 32
            assert entry.tries
            assert all(t.addr and t.response_time_ns >= 0 for t in entry.tries if t.status >= 0), path


@pytest.mark.lab
def test_every_request_in_the_logs_of_the_labs_upstreams_is_found(lab):
    n = 0
    for path in [*lab.glob("*/app_?.log"), *lab.glob("*/up?/access.log")]:
        log = read_upstream_log(str(path))
        entries = list(log)
        assert log.counts.n_unparsed == 0, path
        assert all(e.request_id and e.has_zone and e.target.startswith("/") for e in entries), path
        n += len(entries)
    assert n > 1000


@pytest.mark.corpus
@pytest.mark.parametrize(
    "name",
    ["Cheng-Bin+openresty-tutorial/nginx/logs/error.log", "elastic+beats/filebeat/module/nginx/error/test/error.log"],
)
def test_every_error_log_of_other_projects_is_read_without_rest(corpus, name):
    log = read_error_log(str(corpus / name))
    entries = list(log)
    text = (corpus / name).read_text()
    assert log.counts.n_unparsed == 0
    assert len(entries) == len(HEAD.findall(text))
    # What nginx appends to a record is last, also where the record spans lines.
    assert all(e.host for e in entries if e.client)
    assert sum(bool(e.client) for e in entries) == text.count(", client: ")


@pytest.mark.corpus
@pytest.mark.parametrize("name", ACCESS_SAMPLES)
def test_every_access_log_of_other_projects_is_read(corpus, name):
    log = read_access_log(str(corpus / name))
    entries = list(log)
    assert (len(entries), log.counts.n_unparsed) == ACCESS_SAMPLES[name]
    assert all(100 <= e.status < 600 for e in entries)
