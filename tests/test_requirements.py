"""The locks in requirements/ hold what `pyproject.toml` asks for: exact versions with hashes, and no address."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LOCKS = {path.stem: path for path in (ROOT / "requirements").glob("*.txt")}
GROUPS = {"dev": ("test", "lint", "site", "lab"), "release": ("release",), "runtime": (), "image": ()}
EXTRAS = {"image": re.search(r"^IMAGE_EXTRAS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PYTHONS = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["project"]["classifiers"]))
PINNED = re.compile(r"(?P<name>[a-z0-9-]+)==(?P<version>[\w.]+)( ; (?P<marker>.+))?")
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")


def environment(python):
    """Return what markers are held against: Linux with this Python."""
    return {
        "python_version": python,
        "python_full_version": f"{python}.1",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "os_name": "posix",
        "extra": "",
    }


def read_lock(name):
    """Return the lines of a lock that name versions, each with the number of its hashes."""
    found, line = {}, None
    for text in LOCKS[name].read_text().splitlines():
        if HASH.fullmatch(text):
            found[line] += 1
        elif not text.lstrip().startswith("#"):
            line = text.removesuffix(" \\")
            found[line] = 0
    return found


def versions(name, python):
    """Return what a lock installs with a Python on Linux: versions by name."""
    there = {}
    for line in read_lock(name):
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(environment(python)):
            assert requirement.name not in there, f"{requirement.name} stands twice in {name} for Python {python}"
            (pin,) = requirement.specifier
            there[requirement.name] = pin.version
    return there


def asked(name, python):
    """Return what `pyproject.toml` asks for in a lock; what a group shares with an extra has its bound there."""
    lines = [line for group in GROUPS[name] for line in PROJECT["dependency-groups"][group]]
    if name != "release":
        lines += PROJECT["project"]["dependencies"]
    lines += [line for extra in EXTRAS.get(name, ()) for line in PROJECT["project"]["optional-dependencies"][extra]]
    wanted = [Requirement(line) for line in lines]
    return [r for r in wanted if r.marker is None or r.marker.evaluate(environment(python))]


def test_there_is_a_lock_for_each_purpose():
    assert set(LOCKS) == set(GROUPS)


@pytest.mark.parametrize("name", GROUPS)
def test_a_lock_names_exact_versions_with_hashes_and_nothing_else(name):
    """No options, addresses or paths: where packages come from is a matter of the machine that installs."""
    lines = read_lock(name)
    assert [line for line in lines if not PINNED.fullmatch(line)] == []
    assert [line for line, n_hashes in lines.items() if n_hashes == 0] == []
    assert len(lines) > 10


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", GROUPS)
def test_a_lock_holds_what_is_asked_for_in_a_version_that_is_admitted(name, python):
    there = versions(name, python)
    wanted = asked(name, python)
    names = {canonicalize_name(r.name) for r in wanted}
    extras = [Requirement(line) for lines in PROJECT["project"]["optional-dependencies"].values() for line in lines]
    wanted += [r for r in extras if canonicalize_name(r.name) in names]
    assert names - set(there) == set(), "run make lock"
    refused = [str(r) for r in wanted if not r.specifier.contains(there[canonicalize_name(r.name)])]
    assert refused == [], "run make lock"


@pytest.mark.parametrize("python", PYTHONS)
def test_locks_agree_where_they_hold_the_same(python):
    dev = versions("dev", python)
    for name in ("runtime", "release", "image"):
        there = versions(name, python)
        assert {n: v for n, v in there.items() if n in dev and dev[n] != v} == {}
    assert set(versions("runtime", python)) <= set(versions("image", python)) <= set(dev)
