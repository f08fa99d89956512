"""Every place, every wrapping, every kind of token; every command, every format, every member: none is shown."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from pcapdiag.cli import main
from tests.privacy import planted
from tests.waiting import HANG_S

pytestmark = pytest.mark.compiled_only


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return planted.plant(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def logs(scene):
    files, _ = scene
    return [
        *("--error-log", str(files["error_log"]), "--access-log", str(files["access_log"])),
        *("--upstream-log", str(files["upstream_log"]), "--proxy-conf", str(files["configuration"])),
    ]


def run(*arguments, codes=(0, 1)):
    """Run a command; return what it wrote to both streams."""
    done = CliRunner().invoke(main, list(map(str, arguments)))
    assert done.exit_code in codes, done.output
    return done.stdout_bytes + done.stderr_bytes


def everything_in(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def shown(scene, outputs):
    """Return the places whose tokens are shown, and where."""
    _, tokens = scene
    needles = {token.needle: token.place for token in tokens}
    shown_in = (planted.find_shown(name, data, needles) for name, data in outputs.items())
    found = {(needles[needle], part) for pairs in shown_in for part, needle in pairs}
    # By the names of files a store knows again what it has read: it stays with them on the machine.
    return sorted(pair for pair in found if pair != ("name of the capture (mixed)", "store"))


def written_by(scene, logs, command, folder, *more):
    """Run a command with everything that it takes; return all that it wrote."""
    files, _ = scene
    capture = files["capture"]
    out = folder / "out"
    form = command.partition(" ")[2]
    if command.startswith("analyze"):
        place = out if form in {"csv", "parquet"} else folder / "report"
        told = run("analyze", capture, *logs, "--format", form, "-o", place, *more)
    elif command.startswith("bundle"):
        told = run("analyze", capture, *logs, "--bundle", folder / "incident.zip", *more)
        told += run("attach", folder / "incident.zip", "--to", "https://github.com/acme/proxy/issues/7", "--dry-run")
    elif command.startswith("show"):
        table, form = form.split()
        told = run("show", table, capture, "--format", form, "-o", folder / table, *more)
    elif command == "slice":
        told = run("slice", capture, *logs, "-o", folder / "evidence.pcapng", *more)
    elif command == "scan":
        told = run(
            *("scan", capture.parent, "--store", folder / "store", "--out", out, "--jobs", 1, *logs),
            *("--metrics", folder / "scan.prom", "--jsonl", folder / "jsonl", *more),
        )
        told += run("history", "--store", folder / "store")
    else:
        words = [sys.executable, "-m", "pcapdiag", "watch", "-", "--out", out, "--bundle", *logs, *more]
        with capture.open("rb") as file:
            done = subprocess.run(list(map(str, words)), stdin=file, capture_output=True, check=False, timeout=HANG_S)
        assert done.returncode == 1, done.stderr
        told = done.stdout + done.stderr
    # The recording itself, and where it was in its logs, stay on the machine.
    kept = {name: data for name, data in everything_in(folder).items() if not name.startswith("out/.watch/")}
    return {"told": told, **kept}


COMMANDS = [
    *(f"analyze {form}" for form in ("terminal", "markdown", "html", "json", "csv", "parquet", "jira", "slack")),
    *(f"show {table} {form}" for table in ("exchanges", "connections") for form in ("table", "csv", "json", "parquet")),
    *(f"show {table} csv" for table in ("frames", "segments", "closings")),
    *("bundle", "slice", "scan", "watch"),
]


def test_enough_is_planted_and_each_token_once(scene):
    _, tokens = scene
    assert len(tokens) >= 200
    assert len({token.needle for token in tokens}) == len(tokens)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_token_is_shown(command, scene, logs, tmp_path):
    outputs = written_by(scene, logs, command, tmp_path)
    assert sum(map(len, outputs.values())) > 500
    assert shown(scene, outputs) == []


@pytest.mark.parametrize("command", ["analyze json", "show exchanges csv", "slice"])
def test_the_tokens_are_there_where_redaction_is_refused(command, scene, logs, tmp_path):
    """Otherwise the test above would prove nothing."""
    found = {place for place, _ in shown(scene, written_by(scene, logs, command, tmp_path, "--no-redact"))}
    assert len(found) >= {"slice": 200}.get(command, 100)


@pytest.mark.parametrize("command", ["analyze json", "show exchanges csv", "slice"])
def test_what_is_no_secret_stays_readable(command, scene, logs, tmp_path):
    outputs = b"".join(written_by(scene, logs, command, tmp_path).values())
    assert [text for text in planted.READABLE if text.encode() not in outputs] == []
