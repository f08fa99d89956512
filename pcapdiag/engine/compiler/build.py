"""Building the kernels' library: `compile` makes machine code of the entry kernels, a linker one file of that."""

import ctypes
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from pcapdiag.base.errors import KernelsError
from pcapdiag.engine.compiler.naming import content_digest, library_stem
from pcapdiag.engine.compiler.sources import PACKAGE

_KEPT = 4  # libraries of other sources, for who goes back and forth between branches
_MOST_PROCESSES = 4  # more than kernels that take long
_LOOK_S = 0.2
_SCRATCH = ".kernels-"
_ABANDONED_S = 24 * 3600  # no build takes so long
_COMPILE = """import runpy, sys
sys.path.insert(0, sys.argv.pop(1))
runpy.run_module("pcapdiag.engine.compiler.compile", run_name="__main__")
"""
"""Finds the package whatever PYTHONPATH is: that is pip's where pip builds, and leaves out what is installed."""
_LINK = ["-shared", "-s"]
_LINK_LINUX = ["-nostdlib", "-Wl,-z,noexecstack", "-Wl,-z,relro", "-Wl,-z,now", "-Wl,--build-id=none"]


def build_library(folder: Path) -> Path:
    """Build the library of the sources as they are now.

    Parameters
    ----------
    folder : Path
        Where to put it; it appears there whole or not at all.

    Returns
    -------
    Path

    Raises
    ------
    KernelsError
        The compiler or a linker is missing, or one of them failed.
    """
    if importlib.util.find_spec("numba") is None:
        msg = (
            "the kernels' library is missing, or made for other sources, and building it takes numba: pip install numba"
        )
        raise KernelsError(msg)
    linker = find_linker()
    if linker is None:
        msg = "linking the kernels takes a C compiler (cc), or the package ziglang instead: pip install ziglang"
        raise KernelsError(msg)
    stem = library_stem()
    _clear(folder)
    try:
        # Not in the folder for temporary files: machine code from there may be forbidden to run.
        with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=folder) as scratch:
            objects = _compile_all(Path(scratch))
            linked = _link(linker, objects, Path(scratch) / "kernels.so")
            if library_stem() != stem:
                msg = "sources of the kernels changed while they were compiled: run the command again"
                raise KernelsError(msg)
            return _place(linked, folder, stem)
    except OSError as error:
        msg = f"the kernels' library cannot be built in {folder}: {error}"
        raise KernelsError(msg) from error


def _clear(folder: Path) -> None:
    """Remove what builds left that were killed; another's may be at work where the file system knows no locks."""
    for scratch in folder.glob(f"{_SCRATCH}*"):
        with suppress(OSError):
            if time.time() - scratch.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(scratch, ignore_errors=True)


def _compile_all(scratch: Path) -> list[Path]:
    """Compile every entry kernel into an object file."""
    processes = min(os.cpu_count() or 1, _MOST_PROCESSES)
    # What else numba lets be chosen has no place here: the same sources make the same library.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_") or k == "NUMBA_BOUNDSCHECK"}
    # For any CPU of this kind: instructions that only newer ones have made nothing quicker.
    environment |= {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    # What numba optimizes of each kernel is done again with all that it calls: a seventh of the time for nothing.
    environment |= {"PCAPDIAG_KERNELS": "build", "NUMBA_OPT": "1"}
    # -P: code of whoever wrote into the present folder is not ours to run.
    command = [sys.executable, "-P", "-c", _COMPILE, str(PACKAGE.parent), str(scratch)]
    nothing = subprocess.DEVNULL
    said = [scratch / f"{number}.err" for number in range(processes)]
    workers = []
    for path in said:
        with path.open("wb") as file:
            workers.append(subprocess.Popen(command, env=environment, stdin=nothing, stdout=nothing, stderr=file))  # noqa: S603 - ourselves
    _wait(workers)
    for worker, path in zip(workers, said, strict=True):
        if worker.returncode > 0:
            # On a full disk what it has to say finds no room either.
            free_mb = shutil.disk_usage(scratch).free // 1_000_000
            problem = path.read_text(errors="replace").strip() or f"it said nothing; {free_mb} MB are free there"
            msg = f"the kernels cannot be compiled (status {worker.returncode}):\n{problem}"
            raise KernelsError(msg)
    if ended := [worker.returncode for worker in workers if worker.returncode]:
        msg = f"the kernels cannot be compiled: a compiler was ended by signal {-ended[0]}"
        raise KernelsError(msg)
    return sorted(scratch.glob("*.o"))


def _wait(workers: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait for all; when one has failed, the others need not go on."""
    while running := [worker for worker in workers if worker.poll() is None]:
        if any(worker.returncode for worker in workers):
            for worker in running:
                worker.kill()
        with suppress(subprocess.TimeoutExpired):
            running[0].wait(_LOOK_S)


def find_linker() -> list[str] | None:
    """Return the command that links: a C compiler, or the one in the ziglang package; None if there is neither."""
    compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
    if shutil.which(compiler[0]):
        return compiler
    if importlib.util.find_spec("ziglang") is not None:
        return [sys.executable, "-P", "-m", "ziglang", "cc"]
    return None


def _link(linker: list[str], objects: Iterable[Path], target: Path) -> Path:
    # Kernels need nothing of the C library but functions that every process has; without its versions they run with
    # any of its makes.
    options = [*_LINK, *(_LINK_LINUX if sys.platform == "linux" else [])]
    command = [*linker, *options, "-o", str(target), *map(str, objects)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        msg = f"the kernels cannot be linked by {linker[0]}: {done.stderr.strip() or done.returncode}"
        raise KernelsError(msg)
    ctypes.CDLL(str(target))  # all symbols are found, or it is told now
    return target


def _place(linked: Path, folder: Path, stem: str) -> Path:
    """Give the library its name, when all of it is on the disk."""
    target = folder / f"{stem}{content_digest(linked)}.so"
    with linked.open("rb") as file:
        os.fsync(file.fileno())
    linked.replace(target)
    others = sorted((path for path in folder.glob("kernels-*.so") if path != target), key=lambda p: -p.stat().st_mtime)
    for path in others[_KEPT:]:
        path.unlink(missing_ok=True)
    return target
