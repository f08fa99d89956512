"""Kernels without the compiler: the same results from the kept machine code, used only where it is known to fit."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pcapdiag.kernels import _native

pytestmark = pytest.mark.compiled_only
ROOT = Path(__file__).resolve().parents[2]
CASES = sorted(path for path in (ROOT / "captures").glob("*/proxy*.pcap*") if path.stat().st_size < 300_000)
ANALYZE = """
import sys
from pcapdiag.cli import main
try:
    main(["analyze", "--format", "json", "--quiet", *sys.argv[1:]])
except SystemExit:
    pass
print("numba" in sys.modules, file=sys.stderr)
"""


def run_python(program, *arguments, kernels="auto", cache=None):
    # Whatever mode this test runs in, the process is one of an operator.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    env = {**inherited, "PYTHONPATH": str(ROOT), "PCAPDIAG_KERNELS": kernels}
    if cache is not None:
        env["PCAPDIAG_CACHE_DIR"] = str(cache)
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def cache():
    """Folder of the compiled kernels, complete."""
    done = run_python(
        "from pcapdiag.pipeline import warm_up; warm_up(); from pcapdiag.kernels import _kernel; print(_kernel._FOLDER)"
    )
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture
def copy(cache, tmp_path):
    """Return a cache folder of its own, and where its image lies."""
    shutil.copytree(cache, tmp_path / "pcapdiag" / cache.name)
    (tmp_path / "pcapdiag" / cache.name).chmod(0o700)
    (image,) = (tmp_path / "pcapdiag" / cache.name).glob("image-*")
    return tmp_path, image


def test_a_machine_that_has_compiled_once_needs_no_compiler(cache):
    done = run_python(ANALYZE, CASES[0])
    assert done.stderr.splitlines()[-1] == "False", done.stderr
    assert '"schema_version": 1' in done.stdout
    assert cache.exists()


@pytest.mark.usefixtures("cache")
def test_reports_are_the_same_with_and_without_the_compiler():
    without = run_python(ANALYZE, *CASES)
    compiled = run_python(ANALYZE, *CASES, kernels="numba")
    assert (without.stderr.splitlines()[-1], compiled.stderr.splitlines()[-1]) == ("False", "True")
    assert len(without.stdout) > 10_000
    assert without.stdout == compiled.stdout


def test_machine_code_that_nobody_has_tried_is_not_used(copy):
    folder, image = copy
    (image / "tried").unlink()
    assert _native.load_image(image.parent) is None
    assert _native.load_image(image.parent, untried=True) is not None
    assert run_python(ANALYZE, CASES[0], cache=folder).stderr.splitlines()[-1] == "True"


def test_an_image_beside_numba_leaves_its_kernels_as_they_were(cache):
    """Where numba is loaded already, its helpers keep their names: it looks them up for each kernel it loads."""
    program = f"""
from pathlib import Path
import pcapdiag.tcp.tracker as tcp
from pcapdiag.kernels import _native
assert _native.load_image(Path({str(cache)!r})) is not None
tracker = tcp.Tracker()
assert tracker._grow_slots()
print(len(tracker.live))
"""
    done = run_python(program, kernels="numba")
    assert (done.returncode, done.stdout) == (0, "2048\n"), done.stderr


def test_machine_code_that_does_not_load_fails_its_trial_in_a_process_of_its_own(copy):
    folder, image = copy
    (image / "tried").unlink()
    broken = b"\x7fELF" + bytes(200)
    (image / "frame_exchanges.o").write_bytes(broken)
    index = json.loads((image / "index.json").read_text())
    index["entries"]["frame_exchanges"]["sha256"] = hashlib.sha256(broken).hexdigest()
    (image / "index.json").write_text(json.dumps(index))
    trial = "from pcapdiag.pipeline import try_kernels; try_kernels()"
    assert run_python(trial, kernels="image", cache=folder).returncode != 0
    after = run_python(ANALYZE, CASES[0], cache=folder)
    assert after.stderr.splitlines()[-1] == "True"
    assert '"schema_version": 1' in after.stdout


def test_a_trial_runs_every_kernel_that_python_calls(copy):
    folder, _ = copy
    program = """
from pcapdiag.kernels import _native
called = set()
call = _native.NativeKernel.__call__
_native.NativeKernel.__call__ = lambda self, *a: (called.add(self.__name__), call(self, *a))[1]
from pcapdiag.pipeline import try_kernels
try_kernels()
from pcapdiag.kernels import _kernel
print(called == set(_kernel._image._entries), len(called))
"""
    assert run_python(program, cache=folder).stdout.split() == ["True", "7"]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (np.zeros(4, dtype=np.int32), "other arguments"),
        (np.zeros((2, 2), dtype=np.uint8), "other arguments"),
        (7, "other arguments"),
        (np.zeros(8, dtype=np.uint8)[::2], "contiguous"),
    ],
)
def test_arguments_that_the_code_was_not_made_for_are_refused(argument, message):
    kind = _native._describe((np.dtype(np.uint8), 1))
    kernel = _native.NativeKernel("scan", 0, [kind])
    with pytest.raises(TypeError, match=message):
        kernel(argument)


def test_rows_of_another_layout_are_other_arguments():
    rows = np.dtype([("a", "i8"), ("b", "i2")])
    aligned = np.dtype([("a", "i8"), ("b", "i2")], align=True)
    renamed = np.dtype([("a", "i8"), ("c", "i2")])
    texts = {_native._describe((dtype, 1)) for dtype in (rows, aligned, renamed)}
    assert len(texts) == 3


@pytest.mark.parametrize("damage", ["image-*/frame_exchanges.o", "image-*/index.json", "image-*/tried", "warm"])
@pytest.mark.parametrize("how", ["torn", "changed", "gone"])
def test_damaged_code_is_compiled_anew_and_never_runs(copy, damage, how):
    folder, image = copy
    (path,) = image.parent.glob(damage)
    content = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2] if how == "torn" else content[:-1] + bytes([content[-1] ^ 1]))
    if damage == "warm":
        shutil.rmtree(image)
    done = run_python(ANALYZE, CASES[0], cache=folder)
    assert done.returncode == 0, done.stderr
    assert '"schema_version": 1' in done.stdout


def test_a_damaged_cache_of_numba_is_compiled_anew(copy):
    folder, image = copy
    shutil.rmtree(image)
    cache = image.parent / json.loads((image.parent / "warm").read_text())["cache"]
    before = len(list(image.parent.glob("numba-*")))
    for path in cache.rglob("*.nb?"):
        path.write_bytes(path.read_bytes()[:-20])
    done = run_python(ANALYZE, CASES[0], cache=folder)
    assert done.returncode == 0, done.stderr
    assert '"schema_version": 1' in done.stdout
    assert len(list(image.parent.glob("numba-*"))) == before + 1


@pytest.mark.parametrize("which", ["folder", "parent"])
def test_a_folder_that_others_can_write_to_is_not_used(copy, which):
    folder, image = copy
    (image.parent if which == "folder" else folder).chmod(0o777)
    done = run_python("from pcapdiag.kernels import _kernel; print(_kernel._FOLDER)", cache=folder)
    assert done.returncode == 0, done.stderr
    assert str(folder) not in done.stdout
