"""Tells whether the process behind a running scan is still there: at once on the same machine, else by its lease."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Final

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def holder_name() -> str:
    """Return what names this process among all machines and over all reboots."""
    pid = os.getpid()
    return f"{_machine()} {pid} {_start_of(pid)}"


def is_dead(holder: str, alive_until_ns: int, now_ns: int) -> bool:
    """Tell whether nobody holds on to a scan any more.

    Parameters
    ----------
    holder : str
        From `holder_name`; empty for a scan that has ended.
    alive_until_ns, now_ns : int
        [ns] Until when the holder said that it would live, and the present time.

    Returns
    -------
    bool
        True if its process is gone from this machine, or if it has been silent for too long.
    """
    machine, _, process = holder.rpartition(" ")[0].rpartition(" ")
    if not process or alive_until_ns < now_ns:
        return True
    started = holder.rpartition(" ")[2]
    return machine == _machine() and started != "?" and _start_of(int(process)) != started


def _machine() -> str:
    """Return host, boot and process namespace: within them a process number means one process."""
    try:
        boot = _BOOT_ID.read_text().strip()
        namespace = Path("/proc/self/ns/pid").readlink()
    except OSError:
        boot, namespace = "?", Path("?")
    return f"{socket.gethostname()}/{boot}/{namespace}".replace(" ", "_")


def _start_of(pid: int) -> str:
    """Return when a process began, in the kernel's ticks; ``?`` where there is no /proc, empty if it is not there."""
    if not _BOOT_ID.exists():
        return "?"
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    # The name in parentheses may hold anything; a zombie does no work any more.
    after_name = stat.rpartition(")")[2].split()
    return "" if after_name[0] == "Z" else after_name[19]
