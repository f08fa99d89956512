"""How the runs of the suite are added up: what failed, what was skipped, and why."""

from collections import Counter

import pytest

from tests import modes

REPORT = """<testsuites><testsuite tests="6" failures="1" errors="1" skipped="2">
<testcase name="a"/><testcase name="b"/>
<testcase name="c"><failure message="assert"/></testcase><testcase name="d"><error message="setup"/></testcase>
<testcase name="e"><skipped type="pytest.skip" message="tshark is not installed">x.py:3</skipped></testcase>
<testcase name="f"><skipped type="pytest.skip" message="Skipped: tshark is not installed">x.py:9</skipped></testcase>
</testsuite></testsuites>"""
PASSED = '<testsuites><testsuite tests="3" failures="0" errors="0" skipped="0"/></testsuites>'


@pytest.fixture
def run(monkeypatch, capsys):
    """Return a function that runs modes with these reports: exit code and lines."""

    def run(*reports, arguments=()):
        left, asked = list(reports), []

        def run_mode(name, _variables, options, report):
            asked.append((name, options[-len(arguments) :] if arguments else ()))
            if text := left.pop(0):
                report.write_text(text)
            return 0 if text == PASSED else 1

        monkeypatch.setattr(modes, "run_mode", run_mode)
        with pytest.raises(SystemExit) as leave:
            modes.main(arguments)
        return leave.value.code, capsys.readouterr().out.strip().splitlines(), asked

    return run


def test_results_are_counted_and_skips_by_their_reason(tmp_path):
    (tmp_path / "r.xml").write_text(REPORT)
    counts, reasons = modes.read_results(tmp_path / "r.xml")
    assert counts == Counter(passed=2, failures=1, errors=1, skipped=2)
    assert reasons == Counter({"tshark is not installed": 2})


def test_the_last_line_adds_up_and_above_it_stands_what_was_skipped(run):
    code, lines, _ = run(PASSED, REPORT)
    assert (code, lines) == (
        1,
        ["skipped 2: tshark is not installed", "2 modes: 5 passed, 2 failed, 2 skipped"],
    )
    assert run(PASSED, PASSED)[:2] == (0, ["2 modes: 6 passed, 0 failed"])


def test_a_mode_that_ends_without_a_report_has_failed(run):
    assert run(PASSED, "")[:2] == (1, ["2 modes: 3 passed, 1 failed"])


def test_all_modes_run_only_if_asked_for_and_the_rest_is_pytests(run):
    _, lines, asked = run(PASSED, PASSED, PASSED, arguments=["--all", "-x"])
    assert lines == ["3 modes: 9 passed, 0 failed"]
    assert [name for name, _ in asked] == ["compiled", "with bounds checks", "without the compiler"]
    assert {options[-1] for _, options in asked} == {"-x"}
