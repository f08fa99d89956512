"""How long a test waits: until something is so, or until a guard against hangs that no busy machine comes near.

Nothing here is an expectation of how quick the program is.
"""

import os
import time
from pathlib import Path

HANG_S = float(os.environ.get("PCAPDIAG_HANG_S", "1200"))
"""[s] What lasts longer hangs; for programs that are run, answers that are read, threads that are joined."""


def wait_until(is_so, *, pause_s=0.05, meanwhile=None):
    """Wait until ``is_so()`` is true and return what it returned; call `meanwhile` before every look."""
    until = time.monotonic() + HANG_S
    while True:
        if meanwhile is not None:
            meanwhile()
        if answer := is_so():
            return answer
        assert time.monotonic() < until, f"waited {HANG_S:.0f} s in vain"
        time.sleep(pause_s)


def is_alive(pid):
    """Return whether a process runs; one that only waits to be asked for its exit code does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
