"""Run the suite in its three modes, all of them whatever the first says, and end with one line that adds them up.

Arguments are handed to pytest. The modes have kernel caches of their own, so none disturbs another.
"""

import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parent.parent

# Without the compiler a kernel runs a hundred times slower, so long tests are left to the other two modes; it is the
# mode in which coverage can see inside the kernels.
MODES = (
    ("compiled", {}, ("-m", "not long")),
    ("without the compiler", {"NUMBA_DISABLE_JIT": "1"}, ("-m", "not slow and not long", "--cov", "--cov-report=")),
    ("with bounds checks", {"NUMBA_BOUNDSCHECK": "1"}, ("-m", "not long")),
)
WARM_UP = "from pcapdiag.pipeline import warm_up; warm_up()"
KINDS = ("failures", "errors", "skipped")


def count_results(report: Path) -> Counter[str]:
    """Add up pytest's JUnit report."""
    counts: Counter[str] = Counter()
    for suite in ET.parse(report).getroot().iter("testsuite"):  # noqa: S314 - written by our own pytest
        counts.update({kind: int(suite.get(kind, 0)) for kind in KINDS})
        counts["passed"] += int(suite.get("tests", 0)) - sum(int(suite.get(kind, 0)) for kind in KINDS)
    return counts


def run_mode(name: str, variables: dict[str, str], options: tuple[str, ...], report: Path) -> int:
    """Run pytest in a process of its own; return its exit code."""
    print(f"\n=== {name} ===", flush=True)
    env = {**os.environ, **variables}
    # Compiled once here, or every worker would compile for itself, and tests that bound their time would not like it.
    subprocess.run([sys.executable, "-c", WARM_UP], cwd=ROOT, env=env, check=True)
    # One more than there are cores: tests of services, recorders and scans wait more than they compute.
    workers = str((os.cpu_count() or 1) + 1)
    command = [sys.executable, "-m", "pytest", "-q", "-n", workers, f"--junitxml={report}", *options, *sys.argv[1:]]
    return subprocess.run(command, cwd=ROOT, env=env, check=False).returncode


def main() -> None:
    """Run all modes; leave with 1 if any of them failed, or ended without a report."""
    total: Counter[str] = Counter()
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, variables, options) in enumerate(MODES):
            report = Path(folder) / f"{number}.xml"
            failed |= run_mode(name, variables, options, report) != 0
            if report.exists():
                total += count_results(report)
            else:
                failed = True
                total["errors"] += 1
    bad = total["failures"] + total["errors"]
    skipped = f", {total['skipped']} skipped" if total["skipped"] else ""
    print(f"\n{len(MODES)} modes: {total['passed']} passed, {bad} failed{skipped}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
