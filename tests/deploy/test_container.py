"""The definition of the container image, as far as it can be checked without a builder."""

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from docker.utils.build import exclude_paths
from dockerfile_parse import DockerfileParser

from tests.conftest import ROOT
from tests.waiting import HANG_S

pytestmark = pytest.mark.compiled_only

CONTAINERFILE = ROOT / "Containerfile"
IGNORED = ROOT / ".dockerignore"


@pytest.fixture(scope="module")
def instructions():
    """Return what the file says, as (instruction, value) in its order."""
    with CONTAINERFILE.open("rb") as file:
        parsed = DockerfileParser(fileobj=file).structure
    return [(step["instruction"], step["value"]) for step in parsed if step["instruction"] != "COMMENT"]


@pytest.fixture(scope="module")
def context():
    """Return the files that a builder is given: what .dockerignore leaves."""
    lines = [line for line in IGNORED.read_text().splitlines() if line and not line.startswith("#")]
    return {path for path in exclude_paths(str(ROOT), lines) if (ROOT / path).is_file()} - {IGNORED.name}


def values(instructions, name):
    return [value for instruction, value in instructions if instruction == name]


def copied(instructions):
    """Return what is copied from the context."""
    return [source for value in values(instructions, "COPY") if "--from" not in value for source in value.split()[:-1]]


def test_hadolint_finds_nothing():
    """And shellcheck, which it runs over the commands."""
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert hadolint
    done = subprocess.run([hadolint, CONTAINERFILE], capture_output=True, text=True, check=False, timeout=HANG_S)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_it_does_not_run_as_root(instructions):
    """By number: Kubernetes' runAsNonRoot cannot look up a name. Nothing after it is done as root again."""
    last_stage = [name for name, _ in instructions][::-1].index("FROM")
    users = values(instructions[-last_stage:], "USER")
    assert len(users) == 1
    user, group = users[0].split(":")
    assert (int(user), int(group)) > (0, 0)
    made = " ".join(values(instructions, "RUN"))
    assert f"--uid {user} --gid {group}" in made
    manifest = list(yaml.safe_load_all((ROOT / "deploy" / "kubernetes" / "cronjob.yaml").read_text()))
    pod = manifest[-1]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert str(pod["securityContext"]["runAsUser"]) == user


def test_both_stages_share_one_image_whose_version_is_named(instructions):
    (argument,) = values(instructions, "ARG")
    name, image = argument.split("=")
    bases = [value.split()[0] for value in values(instructions, "FROM")]
    assert bases == [f"${{{name}}}"] * 2
    tag = image.partition(":")[2]
    assert re.match(r"3\.\d+", tag)
    assert "latest" not in tag


def test_nothing_that_is_secret_or_from_elsewhere_goes_in(instructions):
    """All that is fetched is fetched by pip, from a lock with hashes; there is no ADD, and no variable of a token."""
    assert {name for name, _ in instructions} == {
        "ARG",
        "FROM",
        "WORKDIR",
        "COPY",
        "RUN",
        "ENV",
        "USER",
        "ENTRYPOINT",
        "CMD",
    }
    set_here = [part.partition("=")[0] for value in values(instructions, "ENV") for part in shlex.split(value)]
    assert set(set_here) == {"CC", "PATH", "XDG_CONFIG_HOME", "XDG_DATA_HOME"}
    for command in values(instructions, "RUN"):
        assert not re.search(r"\b(curl|wget|git|apt|apt-get)\b", command)
        for install in re.findall(r"pip install ([^&]*)", command):
            assert re.search(r"--require-hashes --requirement requirements/\w+\.txt|--no-deps /wheels/", install)


def test_what_is_copied_is_there_and_nothing_else_is_handed_to_the_builder(instructions, context):
    """No capture, no history, no environment: a layer shows whatever went in to whoever pulls the image."""
    sources = copied(instructions)
    assert len(sources) > 5
    for source in sources:
        assert [path for path in context if path == source or path.startswith(f"{source}/")], source
    assert [p for p in context if not any(p == s or p.startswith(f"{s}/") for s in sources)] == []
    assert [
        p for p in context if re.search(r"\.(pcap|pcapng|log|so|pyc|key|pem)\b|(^|/)(\.git|\.venv|captures/)", p)
    ] == []


def test_what_builds_the_wheel_is_copied(instructions):
    """All that pyproject.toml names as part of it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {"pyproject.toml", "hatch_build.py", *wheel["packages"], *wheel["shared-data"]}
    needed |= {project["project"]["readme"], *project["project"]["license-files"]}
    assert needed - set(copied(instructions)) == set()
