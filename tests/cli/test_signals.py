"""SIGTERM in the middle of a command's work: it says so, and neither files nor temporary folders are left.

The signal comes from within, after a step of the work that has begun to write: no test waits for the moment.
"""

import shutil
import signal
import tempfile
from importlib import import_module

import pytest

import pcapdiag.cli
from tests.conftest import ROOT

CASE = ROOT / "captures" / "idle_close_race_ipv6"
CAPTURE = CASE / "proxy.pcap"
TICKET = "https://github.com/acme/proxy/issues/7"
SCAN = ["scan", "captures", "--store", "sqlite:///s.db", "--exchanges", "x", "--out", "site", "-j", "1"]
# The command, the step after which the signal comes, and what may be there afterwards.
CUTS = {
    "analyze": (["analyze", CAPTURE, "--bundle", "b.zip"], "pcapdiag.ticket.bundle:_add", set()),
    "slice": (["slice", CAPTURE, "-o", "s.pcapng"], "pcapdiag.ticket.evidence.write:_Evidence._fit_to_leave", set()),
    "compare": (["compare", CAPTURE, CAPTURE, "-o", "c.txt"], "pcapdiag.report.compare.judge:_upstream", set()),
    "show": (["show", "frames", CAPTURE, "--format", "csv", "-o", "f.csv"], "pcapdiag.cli.writers:open_writer", set()),
    "attach": (["attach", "b.zip", "--to", TICKET, "--dry-run"], "pcapdiag.ticket.attach.plan:requests_of", {"b.zip"}),
    "scan": (SCAN, "pcapdiag.nightly.scan.pool:Workers.wait", {"captures", "s.db", "x"}),
    "scan, its exchanges": (SCAN, "pcapdiag.nightly.store.details:DetailFolder.place", {"captures", "s.db", "x"}),
    "scan, its site": (SCAN, "pcapdiag.nightly.site.pages:Pages.night", {"captures", "s.db", "x", "site"}),
    "history": (
        ["history", "--store", "sqlite:///s.db", "--table", "upstreams", "--format", "csv", "-o", "h.csv"],
        "pcapdiag.cli.writers:open_writer",
        {"s.db"},
    ),
}


@pytest.fixture(scope="module")
def before(invoke, tmp_path_factory):
    """Return a folder with what commands read: a bundle, captures, and the store of a scan."""
    folder = tmp_path_factory.mktemp("before")
    (folder / "captures").mkdir()
    shutil.copy(CAPTURE, folder / "captures")
    assert invoke("analyze", CAPTURE, "--bundle", folder / "b.zip", "-o", folder / "r.txt").returncode == 1
    assert invoke("scan", folder / "captures", "--store", f"sqlite:///{folder}/s.db", "--no-exchanges").returncode == 1
    return folder


@pytest.mark.parametrize("name", CUTS)
def test_a_signal_amid_the_work_leaves_nothing_unfinished(name, before, invoke, tmp_path, monkeypatch):
    args, step, may_stay = CUTS[name]
    work, temporary = tmp_path / "work", tmp_path / "tmp"
    work.mkdir()
    temporary.mkdir()
    for part in may_stay - {"x"} if not name.startswith("scan") else {"captures"}:
        (shutil.copytree if (before / part).is_dir() else shutil.copy)(before / part, work / part)
    monkeypatch.chdir(work)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    module, _, path = step.partition(":")
    owner = import_module(module)
    *classes, attribute = path.split(".")
    for part in classes:
        owner = getattr(owner, part)
    original, sent = getattr(owner, attribute), []

    def and_then(*given, **options):
        done = original(*given, **options)
        if not sent:
            sent.append(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
        return done

    monkeypatch.setattr(owner, attribute, and_then)
    kept = signal.signal(signal.SIGTERM, pcapdiag.cli._terminate)
    try:
        done = invoke(*args)
    finally:
        signal.signal(signal.SIGTERM, kept)
    assert sent
    assert done.returncode == 128 + signal.SIGTERM
    assert "ended by SIGTERM; nothing unfinished is left" in done.stderr
    assert {entry.name for entry in work.iterdir()} <= may_stay
    assert not list(temporary.iterdir())
    assert not [entry for entry in work.rglob("*") if entry.name.startswith(".") and entry.is_file()]
