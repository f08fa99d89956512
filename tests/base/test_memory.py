"""Freed memory goes back to the system, where its C library can do that."""

import resource
import subprocess
import sys

CODE = """
from pcapdiag.base.memory import give_back
def resident(): return int(open('/proc/self/statm').read().split()[1])
kept = [bytearray(1000) for _ in range(300_000)]
last = bytearray(1000)
del kept
before = resident()
give_back()
print(before - resident())
"""


def test_freed_memory_is_handed_back():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert int(done.stdout) * resource.getpagesize() > 50 << 20
