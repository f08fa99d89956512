"""The library is built once for its sources, appears whole, and what is missing is said."""

import ctypes
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from pcapdiag.base.errors import KernelsError
from pcapdiag.engine.compiler import build
from tests.engine.compiler.conftest import CALL
from tests.waiting import HANG_S

ALSO_TESTS = ("compile",)

ROOT = Path(__file__).resolve().parents[3]
BUILDING = "pcapdiag: building the kernels' library, once after a change of their sources ...\n"

pytestmark = pytest.mark.compiled_only


def test_the_first_call_in_a_source_tree_builds_and_says_so_once(tree):
    assert tree.run() == (0, "10 False\n", BUILDING)
    assert tree.run() == (0, "10 False\n", "")
    assert len(tree.libraries()) == 1


def test_a_library_of_other_sources_is_not_used(built):
    (stale,) = built.libraries()
    built.kernel.write_text(built.kernel.read_text().replace("2 * total", "3 * total"))
    assert built.run() == (0, "15 False\n", BUILDING)
    assert len(built.libraries()) == 2
    assert stale in built.libraries()


def test_the_same_sources_make_the_same_library(built):
    (library,) = built.libraries()
    library.unlink()
    assert built.run()[0] == 0
    assert built.libraries() == [library]


def test_old_libraries_go_at_last(built):
    for number in range(6):
        (built.folder / f"kernels-old-{number}.so").touch()
    built.kernel.write_text(built.kernel.read_text() + "# changed\n")
    assert built.run()[0] == 0
    assert len(built.libraries()) == 5


def test_what_a_killed_build_left_goes_with_the_next_and_what_is_at_work_stays(tree):
    for name, age_s in ((".kernels-left", 25 * 3600), (".kernels-at-work", 3600)):
        (tree.folder / name).mkdir()
        (tree.folder / name / "0.o").touch()
        then = time.time() - age_s
        os.utime(tree.folder / name, (then, then))
    assert tree.run()[0] == 0
    assert [path.name for path in tree.folder.glob(".kernels-*")] == [".kernels-at-work"]


def test_processes_that_build_at_once_get_along(tree):
    processes = [tree.start() for _ in range(3)]
    results = [process.communicate(timeout=HANG_S) for process in processes]
    assert [out for out, _ in results] == ["10 False\n"] * 3
    assert sorted(err for _, err in results) == ["", "", BUILDING]
    assert len(tree.libraries()) == 1
    assert not list(tree.folder.glob(".kernels-*"))


def test_where_pip_builds_the_package_is_found_although_its_paths_leave_it_out(tree, tmp_path):
    """As pip does it for the second editable install: what the first one added to the path is taken out again."""
    site = tmp_path / "site"
    site.mkdir()
    leave_out = f"sys.path = [path for path in sys.path if path != {str(tree.root)!r}]"
    (site / "sitecustomize.py").write_text(f"import sys\n{leave_out}\n")
    program = f"import sys\nsys.path.insert(0, {str(tree.root)!r})\n{CALL}"
    assert tree.run(program=program, PYTHONPATH=str(site)) == (0, "10 False\n", BUILDING)


def test_an_installation_that_links_to_each_file_runs(tree, tmp_path):
    assert tree.run() == (0, "10 False\n", BUILDING)
    linked = tmp_path / "linked"
    shutil.copytree(tree.root / "pcapdiag", linked / "pcapdiag", copy_function=os.symlink)
    environment = os.environ | {"PYTHONPATH": str(linked)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", CALL, "4"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_S,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "10 False\n", "")


def test_without_numba_the_error_says_what_to_install(tree):
    program = f"import sys\nsys.modules['numba'] = None\n{CALL_AND_TELL}"
    code, out, _ = tree.run(program=program)
    assert (code, "pip install numba" in out, tree.libraries()) == (0, True, [])


def test_without_a_linker_the_error_says_what_to_install(tree, tmp_path):
    code, out, _ = tree.run(program=f"import sys\nsys.modules['ziglang'] = None\n{CALL_AND_TELL}", PATH=str(tmp_path))
    assert (code, "a C compiler (cc)" in out, tree.libraries()) == (0, True, [])


def test_a_kernel_that_does_not_compile_is_shown_with_what_numba_says(tree):
    tree.kernel.write_text(tree.kernel.read_text().replace("return total + value", "return total + str(value)"))
    code, out, _ = tree.run(program=CALL_AND_TELL)
    assert code == 0
    assert "cannot be compiled" in out
    assert "_add" in out
    assert tree.libraries() == []


def test_a_compiler_that_had_no_room_to_speak_is_told_with_the_room_there_is(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "_COMPILE", "raise SystemExit(1)")
    with pytest.raises(KernelsError, match=r"status 1\):\nit said nothing; \d+ MB are free there"):
        build._compile_all(tmp_path)


def test_when_one_compiler_has_failed_the_others_are_ended():
    code = "import time, sys; time.sleep(float(sys.argv[1])); sys.exit(int(sys.argv[2]))"
    workers = [subprocess.Popen([sys.executable, "-c", code, *way]) for way in (("600", "0"), ("0", "3"))]
    build._wait(workers)
    assert [worker.returncode for worker in workers] == [-signal.SIGKILL, 3]


def test_a_kernel_that_returns_anything_but_an_int64_is_refused(tree):
    tree.kernel.write_text(tree.kernel.read_text().replace("return 2 * total if twice else total", "return twice"))
    code, out, _ = tree.run(program=CALL_AND_TELL)
    assert (code, "returns bool" in out) == (0, True)


def test_with_bounds_checks_the_library_is_another_one(built):
    code, _, stderr = built.run(stop=11, NUMBA_BOUNDSCHECK="1")
    assert code == 1
    assert "RuntimeError: kernel add_all failed" in stderr
    assert sorted("-bounds-" in path.name for path in built.libraries()) == [False, True]


def test_whoever_works_on_a_kernel_compiles_on_the_fly_and_keeps_that_in_the_checkout(tree):
    assert tree.run(PCAPDIAG_KERNELS="numba") == (0, "10 True\n", "")
    assert tree.libraries() == []
    assert list((tree.root / "build").glob("numba-*/**/*.nbi"))


def test_the_wheel_holds_the_library_and_fits_every_python_of_the_platform(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_S,
        env={**os.environ, "NUMBA_BOUNDSCHECK": "1"},  # for tests in a checkout: an installed library has none
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert "-py3-none-" in wheel.name
    assert "-any" not in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        (library,) = [name for name in archive.namelist() if name.endswith(".so")]
        assert "-bounds-" not in library
        archive.extract(library, tmp_path)
        (metadata,) = [name for name in archive.namelist() if name.endswith("METADATA")]
        assert "Requires-Dist: num" not in archive.read(metadata).decode().replace("numpy", "")
    ctypes.CDLL(str(tmp_path / library))


def test_pip_shows_why_a_library_could_not_be_built_and_no_traceback(tree, tmp_path):
    for name in ("hatch_build.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, tree.root / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*pip, "--wheel-dir", tmp_path / "wheels", tree.root],
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_S,
        env=tree.environment(CC="false"),
    )
    assert done.returncode != 0
    assert "pcapdiag: the kernels cannot be linked by false" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(("compiler", "path"), [("none-such -O2", os.defpath), ("", "/nowhere"), (None, "/nowhere")])
def test_without_a_compiler_the_build_asks_for_one(compiler, path, monkeypatch):
    monkeypatch.setenv("PATH", path)
    monkeypatch.delenv("CC", raising=False)
    if compiler is not None:
        monkeypatch.setenv("CC", compiler)
    hook = runpy.run_path(str(ROOT / "hatch_build.py"))["KernelsHook"]
    assert hook.dependencies(None) == ["ziglang>=0.13"]
    monkeypatch.setenv("CC", sys.executable)
    assert hook.dependencies(None) == []


CALL_AND_TELL = """
from pcapdiag.base.errors import KernelsError
from pcapdiag.engine.compiler.policy import load_kernels
try:
    load_kernels()
except KernelsError as error:
    print(error)
"""
