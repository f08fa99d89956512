"""What `make dist` made is what SECURITY.md promises of releases."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from pcapdiag.base.version import __version__
from tests.dist.release import ROOT, build, copy_sources, tracked
from tests.waiting import HANG_S

pytestmark = pytest.mark.dist

DIST = ROOT / "dist"
RELEASE = ROOT / ".venv-release" / "bin" / "python"
IN_SDIST = ("deploy/", "docs/", "pcapdiag/")
ALONE_IN_SDIST = {
    *(".gitignore", "CHANGELOG.md", "LICENSE", "README.md", "SECURITY.md", "hatch_build.py", "pyproject.toml"),
    *("requirements/release.txt", "requirements/runtime.txt"),
}
CASE = ROOT / "captures" / "idle_close_race_65s"
ANALYZE = (
    *("analyze", "proxy.pcap", "--error-log", "error.log", "--access-log", "access.log", "--proxy-conf", "nginx.conf"),
    *("--format", "json", "--fail-on", "never"),
)


def one(pattern):
    found = list(DIST.glob(pattern))
    if not found:
        pytest.skip("nothing is built: make dist")
    (path,) = found
    return path


@pytest.fixture(scope="module")
def wheel():
    """Return the wheel, which was made from the sdist."""
    return one("pcapdiag-*.whl")


@pytest.fixture(scope="module")
def sdist():
    """Return the source archive."""
    return one("pcapdiag-*.tar.gz")


def make_all_different(folder):
    """Give files times and rights that no checkout gives them, but for the right to execute, which git tracks."""
    for number, path in enumerate(sorted(folder.rglob("*"))):
        if path.is_file():
            path.chmod(path.stat().st_mode & 0o700)
            os.utime(path, (10**9 + number, 10**9 + number))


def test_another_build_from_another_folder_at_another_time_has_the_same_bytes(wheel, sdist, tmp_path):
    """Wheel and sdist are both made straight from the sources here, with other rights, time zone and home."""
    sources = tmp_path / "some where" / "else"
    copy_sources(sources)
    make_all_different(sources)
    home = tmp_path / "home"
    home.mkdir()
    again = tmp_path / "again"
    build(RELEASE, sources, again, ("--sdist", "--wheel"), HOME=str(home), TZ="Asia/Kolkata", LC_ALL="C")
    assert {path.name for path in again.iterdir()} == {wheel.name, sdist.name}
    assert (again / wheel.name).read_bytes() == wheel.read_bytes()
    assert (again / sdist.name).read_bytes() == sdist.read_bytes()


def test_the_wheel_holds_the_package_its_kernels_man_pages_and_licence_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    (library,) = [name for name in names if name.endswith(".so")]
    assert library.startswith("pcapdiag/engine/compiler/kernels-")
    info = f"pcapdiag-{__version__}.dist-info/"
    described = {f"{info}{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")}
    data = f"pcapdiag-{__version__}.data/data/share/man/man1/"
    manual = {f"{data}{Path(name).name}" for name in tracked() if name.startswith("docs/man/")}
    assert f"{data}pcapdiag-analyze.1" in manual
    assert names == {name for name in tracked() if name.startswith("pcapdiag/")} | {library} | described | manual
    assert "pcapdiag/py.typed" in names


def test_the_sdist_holds_what_building_and_running_takes_and_no_captures(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.removeprefix(f"pcapdiag-{__version__}/") for name in archive.getnames()}
    expected = {name for name in tracked() if name.startswith(IN_SDIST)}
    assert names == expected | ALONE_IN_SDIST | {"PKG-INFO"}


def test_a_registry_has_nothing_to_complain_about(wheel, sdist):
    done = subprocess.run(
        [RELEASE, "-P", "-m", "twine", "check", "--strict", wheel, sdist],
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr


class Installed:
    """An environment with the wheel and what it needs, outside the checkout, and a home with nothing in it."""

    def __init__(self, folder, wheel):
        self.folder = folder
        self.environment = folder / "environment"
        self.home = folder / "home"
        self.home.mkdir()
        subprocess.run([sys.executable, "-m", "venv", self.environment], check=True)
        self.pip("install", "--require-hashes", "--requirement", ROOT / "requirements" / "runtime.txt")
        self.pip("install", "--no-index", "--no-deps", wheel)
        self.case = folder / "case"
        shutil.copytree(CASE, self.case)

    def pip(self, *arguments):
        command = [self.environment / "bin" / "python", "-m", "pip", "--disable-pip-version-check", *arguments]
        return subprocess.run(command, cwd=self.folder, check=True, capture_output=True, text=True).stdout

    def run(self, *arguments):
        """Run the tool as someone who has nothing else; return what it prints on stdout."""
        return run_tool(self.environment, self.case, {"HOME": str(self.home), "PATH": os.defpath}, *arguments)

    def files(self):
        return {path: path.stat().st_mtime_ns for path in self.folder.rglob("*") if path.is_file()}


def run_tool(environment, folder, variables, *arguments):
    done = subprocess.run(
        [Path(environment) / "bin" / "pcapdiag", *arguments],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_S,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Return the installation that several tests look into."""
    return Installed(tmp_path_factory.mktemp("installed"), wheel)


def test_the_installed_wheel_says_what_the_checkout_says_twice_and_leaves_nothing_behind(installed):
    before = installed.files()
    assert __version__ in installed.run("--version")
    first, second = installed.run(*ANALYZE), installed.run(*ANALYZE)
    assert first == second
    assert installed.files() == before
    assert first == run_tool(sys.prefix, installed.case, dict(os.environ), *ANALYZE)
    assert "PD101" in {finding["code"] for finding in json.loads(first)["findings"]}


def test_all_that_the_wheel_needs_is_locked(installed):
    assert "No broken requirements found." in installed.pip("check")


def test_the_sbom_lists_what_is_installed_and_names_no_place(installed):
    text = one("pcapdiag.cdx.json").read_text()
    sbom = json.loads(text)
    assert (sbom["bomFormat"], sbom["metadata"]["component"]["name"]) == ("CycloneDX", "pcapdiag")
    assert sbom["metadata"]["component"]["version"] == __version__
    listed = {(part["name"].lower(), part["version"]) for part in sbom["components"]}
    there = {(part["name"].lower(), part["version"]) for part in json.loads(installed.pip("list", "--format=json"))}
    assert listed == {part for part in there if part[0] not in {"pcapdiag", "pip", "setuptools"}}
    assert len(listed) > 10
    assert str(ROOT) not in text
    assert "file:" not in text
