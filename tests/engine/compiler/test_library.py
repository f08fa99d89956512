"""The library: loaded without the compiler, with the same results, and never when it is damaged."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pcapdiag.base.errors import KernelsError
from pcapdiag.engine.compiler import naming
from pcapdiag.engine.compiler.library import Library, NativeKernel
from pcapdiag.engine.compiler.policy import load_kernels
from tests.waiting import HANG_S

pytestmark = pytest.mark.compiled_only
ROOT = Path(__file__).resolve().parents[3]
CASES = sorted(path for path in (ROOT / "captures").glob("*/proxy*.pcap*") if path.stat().st_size < 300_000)
ANALYZE = """
import sys
from pcapdiag.cli import main
try:
    main(["analyze", "--format", "json", "--quiet", *sys.argv[1:]])
except SystemExit:
    pass
print(*{"numba", "llvmlite"} & set(sys.modules), file=sys.stderr)
"""


def analyze(*captures, kernels=""):
    # Whatever mode this test runs in, the process is one of an operator.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    env = {**inherited, "PYTHONPATH": str(ROOT), "PCAPDIAG_KERNELS": kernels}
    command = [sys.executable, "-c", ANALYZE, *map(str, captures)]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=HANG_S, check=False)
    return done.stdout, done.stderr.splitlines()[-1]


def test_a_report_takes_no_compiler():
    report, loaded = analyze(CASES[0])
    assert '"schema_version": 1' in report
    assert loaded == ""


@pytest.mark.long
def test_reports_are_the_same_from_the_library_and_compiled_on_the_fly():
    built, compiled = analyze(*CASES), analyze(*CASES, kernels="numba")
    assert (built[1], set(compiled[1].split())) == ("", {"numba", "llvmlite"})
    assert len(built[0]) > 10_000
    assert built[0] == compiled[0]


def cut(content):
    return content[: len(content) // 2]


def flip_one_bit(content):
    return content[:5000] + bytes([content[5000] ^ 1]) + content[5001:]


def replace(_content):
    return b"\x7fELF" + bytes(200)


@pytest.mark.parametrize("damage", [cut, flip_one_bit, replace, lambda _: b""])
def test_a_damaged_library_is_built_anew_in_a_source_tree(built, damage):
    (path,) = built.libraries()
    sound = path.read_bytes()
    path.write_bytes(damage(sound))
    code, out, stderr = built.run()
    assert (code, out, "building the kernels' library" in stderr) == (0, "10 False\n", True)
    assert path.read_bytes() == sound


@pytest.mark.parametrize("damage", [cut, flip_one_bit, replace])
def test_a_damaged_library_is_refused_where_it_was_installed(installed, damage):
    (path,) = installed.libraries()
    path.write_bytes(damage(path.read_bytes()))
    code, _, stderr = installed.run()
    assert code == 1
    assert "are damaged: pip install --force-reinstall pcapdiag, as who it belongs to" in stderr.splitlines()[-1]


def test_a_pipe_in_its_place_is_not_waited_for(installed):
    (path,) = installed.libraries()
    path.unlink()
    os.mkfifo(path)
    code, _, stderr = installed.run()
    assert (code, "are damaged" in stderr.splitlines()[-1]) == (1, True)


def test_an_installation_runs_and_writes_nothing(installed):
    before = sorted(installed.root.rglob("*"))
    assert installed.run() == (0, "10 False\n", "")
    assert installed.run(NUMBA_BOUNDSCHECK="1") == (0, "10 False\n", "")
    assert sorted(installed.root.rglob("*")) == before


def test_a_library_of_another_version_is_refused_where_it_was_installed(installed):
    installed.kernel.write_text(installed.kernel.read_text() + "# changed\n")
    code, _, stderr = installed.run()
    assert (code, "made for other sources" in stderr.splitlines()[-1]) == (1, True)


def test_a_sound_file_that_is_no_library_of_this_platform_is_an_error_not_a_crash(installed):
    (path,) = installed.libraries()
    path.write_bytes(replace(b""))
    path.rename(path.with_name(f"{path.stem.rpartition('-')[0]}-{naming.content_digest(path)}.so"))
    code, _, stderr = installed.run()
    assert (code, "cannot be loaded" in stderr.splitlines()[-1]) == (1, True)
    assert "; pip install --force-reinstall" in stderr.splitlines()[-1]
    assert "/proc/self" not in stderr.splitlines()[-1]


def test_a_kernel_that_the_library_does_not_have_is_an_error():
    def no_such_kernel(number: int): ...

    load_kernels()
    with pytest.raises(KernelsError, match="no_such_kernel"):
        NativeKernel(no_such_kernel, Library())(1)
