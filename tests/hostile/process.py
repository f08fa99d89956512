"""Runs pcapdiag in a process of its own and says how much memory it took."""

import os
import subprocess
import sys
from typing import NamedTuple

from tests.waiting import HANG_S

# What the process itself knows: to the one that waits for it, the memory of the one that forked it counts as well.
MEASURED = """
import re, sys
from pathlib import Path
from pcapdiag.cli import main
try:
    main()
finally:
    most = re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]
    print(f"\\nmemory {most}", file=sys.stderr)
"""


class Run(NamedTuple):
    """What became of a process; `most_mib` is the most memory that it held at once."""

    code: int
    stdout: str
    stderr: str
    most_mib: float


def run_measured(*args, **options):
    """Run the command line with these arguments."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", MEASURED, *map(str, args)],
        check=False,
        capture_output=True,
        text=True,
        timeout=HANG_S,
        env={**os.environ, **options.pop("env", {})},
        **options,
    )
    stderr, _, most = done.stderr.rpartition("\nmemory ")
    return Run(done.returncode, done.stdout, stderr, int(most or 0) / 1024)
