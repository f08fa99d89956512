"""`pcapdiag compare`: its inputs, its formats and its exit codes."""

import json

import pytest

from tests.conftest import ROOT
from tests.report.builders import HOSTILE
from tests.report.compare.builders import finding, proxy_first, report, upstream

BEFORE = ROOT / "captures" / "idle_close_race_before" / "proxy.pcap"
AFTER = ROOT / "captures" / "proxy_timeout_shorter" / "proxy.pcap"


@pytest.fixture
def stored(tmp_path):
    """Return a function that writes a report and gives its path."""

    def store(name, content):
        path = tmp_path / name
        path.write_text(json.dumps(content))
        return path

    return store


@pytest.mark.parametrize(
    ("after", "fail_on", "code"),
    [
        (report(upstreams=[proxy_first()]), "undecided", 0),
        (report(upstreams=[upstream(exchanges=0)]), "exposed", 0),
        (report(upstreams=[upstream(exchanges=0)]), "undecided", 1),
        (report(finding()), "exposed", 1),
        (report(finding()), "never", 0),
        (report(finding(), finding("PD201", 1)), "exposed", 1),
    ],
)
def test_the_exit_code_says_whether_something_is_exposed(invoke, stored, after, fail_on, code):
    done = invoke("compare", stored("b.json", report(finding())), stored("a.json", after), "--fail-on", fail_on)
    assert done.returncode == code, done.stdout


def test_captures_and_reports_may_be_mixed(invoke, tmp_path):
    before = tmp_path / "before.json"
    assert invoke("analyze", BEFORE, "--format", "json", "-o", before, "-q").returncode == 1
    mixed = invoke("compare", before, AFTER, "--format", "json")
    both = invoke("compare", BEFORE, AFTER, "--format", "json")
    assert mixed.returncode == both.returncode == 0
    assert mixed.stdout == both.stdout
    content = json.loads(both.stdout)
    assert content["outcome"] == "fixed"
    assert [u["after"]["races"] for u in content["upstreams"]] == [0, 0, 0]


def test_the_terminal_says_the_verdict_first_and_both_sides_in_a_table(invoke):
    done = invoke("compare", BEFORE, AFTER)
    lines = done.stdout.splitlines()
    assert lines[0] == "Fixed: PD101 idle-close-race (11 before, 0 after) at 3 upstreams."
    assert "  lost to the race                        4             0" in lines
    assert "  on reused connections            9 (39 %)      7 (28 %)" in lines
    assert max(map(len, lines)) <= 100


def test_a_ticket_gets_the_same_words(invoke):
    done = invoke("compare", BEFORE, AFTER, "--format", "markdown")
    assert done.stdout.startswith("**Fixed: PD101 idle-close-race (11 before, 0 after) at 3 upstreams.**\n")
    assert "| `on reused connections` | `9 (39 %)` | `7 (28 %)` |" in done.stdout
    done = invoke("compare", BEFORE, AFTER, "--format", "jira")
    assert "|on reused connections|9 (39 %)|7 (28 %)|" in done.stdout


def test_many_upstreams_get_one_row_each(invoke, stored):
    many = [upstream(f"10.1.1.{n}:80") for n in range(30)]
    done = invoke("compare", stored("b.json", report(upstreams=many)), stored("a.json", report(upstreams=many)))
    assert "and 10 more upstreams: --format json lists them all." in done.stdout
    assert len(done.stdout.splitlines()) < 120


@pytest.mark.parametrize("content", ["{}", '{"schema_version": 1}', "{"])
def test_a_broken_report_is_a_job_that_could_not_be_done(invoke, tmp_path, content):
    path = tmp_path / "broken.json"
    path.write_text(content)
    done = invoke("compare", path, path)
    assert done.returncode == 2
    assert "is not a" in done.stderr
    assert done.stdout == ""


def test_a_missing_capture_is_a_job_that_could_not_be_done(invoke, tmp_path):
    assert invoke("compare", tmp_path / "none.pcap", AFTER).returncode == 2


@pytest.mark.parametrize("format_", ["terminal", "markdown", "jira", "json"])
def test_text_of_a_report_that_somebody_else_wrote_is_escaped(invoke, stored, format_):
    hostile = upstream(HOSTILE.encode("utf-8", "replace").decode())
    bad = report(
        finding(HOSTILE.encode("utf-8", "replace").decode(), 3, subject=hostile["endpoint"]),
        upstreams=[hostile],
        captures=[{"paths": [hostile["endpoint"]], "first_ts_ns": 0, "last_ts_ns": 1}],
    )
    path = stored("bad.json", bad)
    text = invoke("compare", path, path, "--format", format_).stdout
    assert text
    assert all(char == "\n" or char.isprintable() for char in text)
    if format_ == "markdown":
        assert "<script" not in text
        assert "@here" not in text
    if format_ == "jira":
        assert not [line for line in text.splitlines() if "[a]" in line]
