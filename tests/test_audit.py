"""A vulnerable version is a failure, a registry that knows nothing is not, and each is said."""

import pytest

from tests import audit

ANSWERED = [{"name": "click", "version": "8.5.1", "vulns": []}]
UNKNOWN = [{"name": "click", "skip_reason": "Dependency not found on PyPI and could not be audited: click (8.5.1)"}]
HOLE = {"id": "PYSEC-2026-1", "fix_versions": ["3.1"], "aliases": [], "description": ""}
BAD = {"name": "jinja2", "version": "3.0", "vulns": [HOLE]}


@pytest.fixture
def run(monkeypatch, capsys):
    """Return a function that audits with these answers of pip-audit: exit code, lines, what was asked about."""

    def run(*answers):
        left, asked = list(answers), []

        def run_pip_audit(locks, *_options):
            asked.append([path.name for path in locks])
            return left.pop(0)

        monkeypatch.setattr(audit, "run_pip_audit", run_pip_audit)
        code = 0
        try:
            audit.main()
        except SystemExit as leave:
            code = leave.code
        return code, capsys.readouterr().out.splitlines(), asked

    return run


def test_all_locks_are_asked_about_where_one_package_was_answered(run):
    code, lines, asked = run((ANSWERED, ""), (ANSWERED, ""))
    assert (code, lines) == (0, ["audit: 1 versions asked about, 0 vulnerable"])
    assert asked[1] == ["dev.txt", "image.txt", "release.txt", "runtime.txt"]


def test_a_vulnerable_version_is_named_and_a_failure(run):
    code, lines, _ = run((ANSWERED, ""), ([*ANSWERED, BAD], "Found 1 known vulnerability"))
    assert code == 1
    assert lines == ["jinja2 3.0: PYSEC-2026-1, mended in 3.1", "audit: 2 versions asked about, 1 vulnerable"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((UNKNOWN, "No known vulnerabilities found"), UNKNOWN[0]["skip_reason"]),
        ((None, "Traceback\nrequests.exceptions.ConnectionError: refused"), "ConnectionError: refused"),
        ((None, ""), "silence"),
    ],
)
def test_where_no_service_answers_it_says_so_and_asks_no_more(run, answer, reason):
    code, (line,), asked = run(answer)
    assert code == 0
    assert line.startswith("audit: NOT DONE")
    assert line.endswith(reason)
    assert len(asked) == 1


def test_what_only_another_registry_has_is_named(run):
    code, lines, _ = run((ANSWERED, ""), ([*ANSWERED, {"name": "ours", "skip_reason": "not found"}], ""))
    assert code == 0
    assert lines[0] == "audit: nothing is known of ours"


def test_an_audit_that_breaks_off_is_a_failure(run):
    code, _, _ = run((ANSWERED, ""), (None, "package x has duplicate requirements"))
    assert "duplicate requirements" in code
