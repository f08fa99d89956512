"""From files to the joined ledger: which file is what, which zone, which format, and what was left out."""

import pytest

import pcapdiag
from pcapdiag.analysis.add_logs import access_format, add_logs, expand_inputs, proxy_version
from pcapdiag.analysis.inputs import Inputs
from pcapdiag.base.errors import LogError, UsageError
from pcapdiag.base.findings import VerdictKind
from pcapdiag.proxy.conf.read import read_proxy_conf
from pcapdiag.proxy.conf.settings import ProxyKind
from pcapdiag.report.ledger import ledger_lines
from tests.conftest import ROOT

CASE = ROOT / "captures" / "idle_close_race_65s"


@pytest.fixture(scope="module")
def analysis():
    """Return the analysis of a race, without logs."""
    return pcapdiag.analyze(CASE / "proxy.pcap").analysis


@pytest.fixture
def settings_of(tmp_path):
    """Return a function that reads a configuration of these lines within ``http``."""

    def read(*lines):
        path = tmp_path / "nginx.conf"
        path.write_text("\n".join(["events {}", "http {", *lines, "}"]))
        return read_proxy_conf(str(path), version="")

    return read


def test_without_a_file_nothing_changes(analysis):
    assert add_logs(analysis, Inputs()) is analysis


def test_a_log_is_joined_and_a_configuration_is_kept(analysis):
    inputs = Inputs(error_logs=(str(CASE / "error.log"),), proxy_conf=str(CASE / "nginx.conf"))
    joined = add_logs(analysis, inputs)
    assert len(joined.log.entries) > 0
    assert joined.log.clients is None, "no access log was given"
    assert joined.settings is not None
    assert analysis.log is None
    assert joined.losses == analysis.losses


def test_a_configuration_alone_makes_no_ledger(analysis):
    added = add_logs(analysis, Inputs(proxy_conf=str(CASE / "nginx.conf")))
    assert (added.log, added.settings is not None) == (None, True)


def test_lines_that_are_none_are_counted_and_some_are_named(analysis, tmp_path):
    log = tmp_path / "error.log"
    log.write_text("no log line\n" * 7 + (CASE / "error.log").read_text())
    (note,) = (n for n in add_logs(analysis, Inputs(error_logs=(str(log),))).notes if n.code == "log-lines-skipped")
    assert note.file == str(log)
    assert note.text.startswith("7 of ")
    assert note.text.endswith("lines are no log lines (line 1, 2, 3, 4, 5, ...)")


def test_another_proxys_error_log_is_read_by_its_own_rules_whatever_option_names_it(analysis, tmp_path):
    log = tmp_path / "httpd.log"
    log.write_text(
        "[Tue Dec 01 03:47:06.576123 2026] [proxy_http:error] [pid 7:tid 9] (70014)End of file found:"
        " [client 192.0.2.2:42496] AH01102: error reading status line from remote server 192.0.2.9:8080\n"
    )
    access = tmp_path / "access.log"
    access.write_text('192.0.2.2 - - [01/Dec/2026:03:47:06 +0000] "GET / HTTP/1.1" 502 157 "-" "-"\n')
    inputs = Inputs(error_logs=(str(log),), access_logs=(str(access),))
    joined = add_logs(analysis, inputs)
    assert joined.log.errors_read == 1
    assert [(j.entry.upstream_peer, j.reason) for j in joined.log.entries] == [
        ("192.0.2.9:8080", "the capture holds no packet of 192.0.2.9:8080")
    ]
    assert joined.proxy_kind is ProxyKind.APACHE
    assert len(add_logs(analysis, Inputs(access_logs=(str(log),))).log.entries) == 1
    assert add_logs(analysis, Inputs(access_logs=(str(access),))).log.errors_read == -1


@pytest.mark.parametrize(
    ("inputs", "error"),
    [
        (Inputs(error_logs=("/nowhere/error.log",)), LogError),
        (Inputs(proxy_conf="/nowhere/nginx.conf"), UsageError),
    ],
)
def test_what_cannot_be_read_is_an_error(analysis, inputs, error):
    with pytest.raises(error):
        add_logs(analysis, inputs)


def test_a_folder_stands_for_the_logs_in_it(tmp_path):
    for name in ("error.log", "error.log.1", "access.log", "other.txt"):
        (tmp_path / name).write_text("x\n")
    inputs = Inputs(error_logs=(str(tmp_path), str(tmp_path / "error.log")), access_logs=(str(tmp_path),))
    expanded = expand_inputs(inputs)
    assert expanded.error_logs == (str(tmp_path / "error.log"),)  # older ones are looked for when they are needed
    assert expanded.access_logs == (str(tmp_path / "access.log"),)
    (tmp_path / "empty").mkdir()
    with pytest.raises(LogError):
        expand_inputs(Inputs(error_logs=(str(tmp_path / "empty"),)))


def test_a_format_that_was_given_stands_above_the_configured_one(settings_of):
    settings = settings_of("log_format mine '$remote_addr $status';", "access_log /a mine;")
    assert access_format(Inputs(log_format="$status"), settings) == "$status"
    assert access_format(Inputs(), settings) == "$remote_addr $status"
    assert access_format(Inputs(), None) is None


def test_of_several_configured_formats_none_is_chosen(settings_of):
    lines = ("log_format a '$status';", "log_format b '$msec';", "access_log /a a;", "access_log /b b;")
    assert access_format(Inputs(), settings_of(*lines)) is None


def test_the_way_of_escaping_is_part_of_a_format(settings_of):
    settings = settings_of('log_format mine escape=json \'{"s":"$status"}\';', "access_log /a mine;")
    assert access_format(Inputs(), settings) == 'escape=json {"s":"$status"}'


def test_without_the_clients_leg_the_proxys_version_is_unknown(analysis):
    assert proxy_version(analysis) == ""


def log_notes(analysis, **inputs):
    """Return the notes that logs add, by code."""
    return {n.code: n.text for n in add_logs(analysis, Inputs(**inputs)).notes if n.code.startswith("log-")}


def test_a_log_that_is_not_understood_says_so_with_its_first_line(analysis, tmp_path):
    log = tmp_path / "error.log"
    log.write_text("E1201 04:02:08.225 proxy.go:17] the status line could not be read\n" * 3)
    added = add_logs(analysis, Inputs(error_logs=(str(log),)))
    (text,) = log_notes(analysis, error_logs=(str(log),)).values()
    assert text.startswith("none of its 3 lines was understood; line 1 begins: 'E1201 04")
    assert added.log.errors_read == 0
    assert not added.log.has_errors


def test_an_empty_log_and_one_of_the_other_kind_are_named(analysis, tmp_path):
    log = tmp_path / "error.log"
    log.write_text("")
    assert "log-empty" in log_notes(analysis, error_logs=(str(log),))
    log.write_text('192.0.2.2 - - [20/Nov/2026:23:56:28 +0000] "GET /a HTTP/1.1" 502 157 "-" "curl/8"\n')
    assert "give it as --access-log, too" in log_notes(analysis, error_logs=(str(log),))["log-mixed"]
    assert log_notes(analysis, error_logs=(str(log),), access_logs=(str(log),)) == {}


@pytest.mark.parametrize("kind", ["none", "access", "empty", "foreign"])
def test_rules_that_rest_on_the_error_log_are_not_evaluated_without_one(tmp_path, kind):
    log = tmp_path / "error.log"
    log.write_text({"empty": "", "foreign": "AH01102: error\n"}.get(kind, ""))
    inputs = {} if kind == "none" else {"error_logs": [log]}
    if kind == "access":
        inputs = {"access_logs": [CASE / "access.log"]}
    report = pcapdiag.analyze(CASE / "proxy.pcap", **inputs).report
    verdicts = {v.code: v for v in report.verdicts}
    for code in ("PD401", "PD402", "PD601"):
        assert verdicts[code].verdict is VerdictKind.NOT_EVALUATED
        assert "error log" in verdicts[code].reason
    assert not any("error log has no entry" in line for line in ledger_lines(report.log))


def test_an_error_log_that_begins_above_the_level_of_such_failures_proves_nothing(tmp_path):
    conf = tmp_path / "nginx.conf"
    for level, kind in (("crit", VerdictKind.NOT_EVALUATED), ("warn", VerdictKind.CLEAN)):
        conf.write_text(f"error_log /var/log/e.log {level};\nevents {{}}\nhttp {{\n}}\n")
        report = pcapdiag.analyze(CASE / "proxy.pcap", error_logs=[CASE / "error.log"], proxy_conf=conf).report
        assert {v.verdict for v in report.verdicts if v.code in {"PD401", "PD402"}} == {kind}


def test_an_applications_log_that_is_not_understood_says_so(analysis, tmp_path):
    log = tmp_path / "app.log"
    log.write_text("started\nready password=hunter2\n")
    assert "none of its 2 lines was understood" in log_notes(analysis, upstream_logs=(str(log),))["log-not-understood"]


def test_the_line_that_is_quoted_is_masked_as_everything_is(tmp_path):
    log = tmp_path / "error.log"
    log.write_text("GET /a?token=hunter2 Authorization: Bearer hunter2\x1b[31m\n")
    report = pcapdiag.analyze(CASE / "proxy.pcap", error_logs=[log]).report
    (note,) = (n for n in report.notes if n.code == "log-not-understood")
    assert "hunter2" not in note.text


@pytest.mark.parametrize("with_failures", [True, False])
def test_a_log_without_zone_and_failures_is_placed_by_its_answered_requests(tmp_path, with_failures):
    case = ROOT / "captures" / "haproxy_as_proxy"
    lines = (case / "haproxy.log").read_text().splitlines(keepends=True)
    log = tmp_path / "haproxy.log"
    log.write_text("".join(line for line in lines if with_failures or " ---- " in line))
    report = pcapdiag.analyze(case / "proxy.pcap", error_logs=[str(log)]).report
    assert (report.log.zone_offset_s, report.impact.source) == (0, "access_log")
    assert (report.impact.failures > 0) is with_failures


@pytest.mark.parametrize("given", ["both", "the log in use"])
def test_logs_that_overlap_in_part_count_what_they_share_once(analysis, tmp_path, given):
    lines = (CASE / "error.log").read_text().splitlines(keepends=True)
    whole = add_logs(analysis, Inputs(error_logs=(str(CASE / "error.log"),)))
    older, newer = tmp_path / "error.log.1", tmp_path / "error.log"
    older.write_text("".join(lines[:25]))
    newer.write_text("".join(lines[12:]))
    logs = (str(older), str(newer)) if given == "both" else (str(newer),)
    joined = add_logs(analysis, Inputs(error_logs=logs))
    assert len(joined.log.entries) == len(whole.log.entries) > 20
    assert len([t for t in joined.log.tries if t.entries]) == len([t for t in whole.log.tries if t.entries])
    told = [note.text for note in joined.notes if note.code == "log-given-twice"]
    expected = f"{older} has from line 13 on the lines with which {newer} begins: they count once"
    assert told == ([expected] if given == "both" else [])
