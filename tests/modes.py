"""Run the suite in its modes, all of them whatever the first says, and end with one line that adds them up.

``--all`` runs what starts whole programs and servers, too, and the suite without the compiler, which serves the
coverage of kernels. All other arguments are handed to pytest. The modes have libraries of their own, so none disturbs
another.
"""

import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parent.parent

USUAL = "not long and not live and not dist"
COMPILED = ("compiled", {})
CHECKED = ("with bounds checks", {"NUMBA_BOUNDSCHECK": "1"})
# Without the compiler a kernel runs a hundred times slower, so slow tests are left to the other modes; only here can
# coverage see inside the kernels.
PLAIN = ("without the compiler", {"NUMBA_DISABLE_JIT": "1"})
MODES = tuple((*mode, ("-m", f"{USUAL} and not whole")) for mode in (COMPILED, CHECKED))
ALL_MODES = (
    (*COMPILED, ("-m", USUAL)),
    (*CHECKED, ("-m", f"{USUAL} and (not whole or corpus)")),
    (*PLAIN, ("-m", f"{USUAL} and not whole and not slow", "--cov", "--cov-report=")),
)
BUILD = "from pcapdiag.engine.compiler.policy import load_kernels; load_kernels()"
KINDS = ("failures", "errors", "skipped")


def read_results(report: Path) -> tuple[Counter[str], Counter[str]]:
    """Add up pytest's JUnit report: results by kind, and skips by their reason."""
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for suite in ET.parse(report).getroot().iter("testsuite"):  # noqa: S314 - written by our own pytest
        counts.update({kind: int(suite.get(kind, 0)) for kind in KINDS})
        counts["passed"] += int(suite.get("tests", 0)) - sum(int(suite.get(kind, 0)) for kind in KINDS)
        reasons.update(skip.get("message", "").removeprefix("Skipped: ") for skip in suite.iter("skipped"))
    return counts, reasons


def run_mode(name: str, variables: dict[str, str], options: Sequence[str], report: Path) -> int:
    """Run pytest in a process of its own; return its exit code."""
    print(f"\n=== {name} ===", flush=True)
    env = {**os.environ, **variables}
    # Workers and the hundreds of processes that tests start would each compile all sources, and rewrite all tests.
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    # Built here, or all workers would wait for one of them, and tests that bound their time would not like it.
    subprocess.run([sys.executable, "-c", BUILD], cwd=ROOT, env=env, check=True)
    # Two more than there are cores: tests of services, recorders and browsers wait more than they compute.
    workers = str((os.cpu_count() or 1) + 2)
    # Each gets a stretch of the suite, so that what a module's tests share is made once, and helps the others out then.
    how = ("-n", workers, "--dist", "worksteal", f"--junitxml={report}")
    command = [sys.executable, "-m", "pytest", "-q", *how, *options]
    return subprocess.run(command, cwd=ROOT, env=env, check=False).returncode


def main(arguments: Sequence[str]) -> None:
    """Run the modes; leave with 1 if any of them failed, or ended without a report."""
    modes = ALL_MODES if "--all" in arguments else MODES
    for_pytest = [argument for argument in arguments if argument != "--all"]
    total: Counter[str] = Counter()
    skips: Counter[str] = Counter()
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, variables, options) in enumerate(modes):
            report = Path(folder) / f"{number}.xml"
            failed |= run_mode(name, variables, (*options, *for_pytest), report) != 0
            if report.exists():
                counts, reasons = read_results(report)
                total += counts
                skips += reasons
            else:
                failed = True
                total["errors"] += 1
    bad = total["failures"] + total["errors"]
    print()
    for reason, n in skips.most_common():
        print(f"skipped {n}: {reason}")
    skipped = f", {total['skipped']} skipped" if total["skipped"] else ""
    print(f"{len(modes)} modes: {total['passed']} passed, {bad} failed{skipped}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
