"""Bundles: the same members give the same bytes, and the manifest says what they are."""

import dataclasses
import hashlib
import io
import shutil
import stat
import subprocess
import zipfile

import pytest

from pcapdiag.report.model import Redaction
from pcapdiag.ticket.bundle import BundleFile, write_bundle
from pcapdiag.ticket.manifest import NAME, parse_manifest
from tests.report import builders

MEMBERS = (
    BundleFile("report.html", b"<p>" * 5000),
    BundleFile("charts/idle-gaps.png", bytes(range(256)) * 10),
    BundleFile("empty.txt", b""),
)


@pytest.fixture
def report():
    return builders.race_report()


def bundle(report, members=MEMBERS):
    file = io.BytesIO()
    write_bundle(file, report, members)
    return file.getvalue()


def opened(data):
    return zipfile.ZipFile(io.BytesIO(data))


def test_every_member_is_there_as_it_was_given(report):
    with opened(bundle(report)) as archive:
        assert archive.namelist() == [NAME, *(m.name for m in MEMBERS)]
        assert [archive.read(m.name) for m in MEMBERS] == [m.content for m in MEMBERS]
        assert archive.testzip() is None


def test_the_manifest_holds_sizes_hashes_and_the_identifier_of_the_report(report):
    with opened(bundle(report)) as archive:
        manifest = parse_manifest(archive.read(NAME))
    assert manifest.report == report.identifier
    assert manifest.tool == f"pcapdiag {report.tool.version}"
    assert [(m.name, m.n_bytes, m.sha256) for m in manifest.members] == [
        (m.name, len(m.content), hashlib.sha256(m.content).hexdigest()) for m in MEMBERS
    ]


def test_sha256sum_checks_an_unpacked_bundle(report, tmp_path):
    program = shutil.which("sha256sum")
    if program is None:
        pytest.skip("sha256sum is not installed")
    with opened(bundle(report)) as archive:
        archive.extractall(tmp_path)
    command = [program, "--strict", "-c", NAME]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    (tmp_path / "report.html").write_bytes(b"changed")
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 1


@pytest.mark.parametrize(("redacted", "anonymized"), [(True, False), (False, False), (True, True)])
def test_what_was_kept_back_stands_in_the_manifest(report, redacted, anonymized):
    marked = dataclasses.replace(report, redaction=Redaction(redacted=redacted, anonymized=anonymized))
    with opened(bundle(marked)) as archive:
        manifest = parse_manifest(archive.read(NAME))
    assert (manifest.redacted, manifest.anonymized) == (redacted, anonymized)


def test_the_same_members_give_the_same_bytes(report, monkeypatch):
    first = bundle(report)
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    files = tuple(BundleFile(m.name, io.BytesIO(m.content)) for m in MEMBERS)
    assert bundle(report, files) == first


def test_times_modes_and_compression_are_fixed(report):
    with opened(bundle(report)) as archive:
        entries = archive.infolist()
    assert {e.date_time for e in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {e.external_attr >> 16 for e in entries} == {stat.S_IFREG | 0o600}
    assert {e.create_system for e in entries} == {3}
    assert {e.filename.endswith(".png"): e.compress_type for e in entries} == {
        True: zipfile.ZIP_STORED,
        False: zipfile.ZIP_DEFLATED,
    }


@pytest.mark.parametrize("name", ["../report.html", "/report.html", "charts/../x.png", "a\nb", "MANIFEST", "x.html/"])
def test_a_name_that_is_not_our_own_is_refused(report, name):
    with pytest.raises(ValueError, match="read back"):
        bundle(report, (BundleFile(name, b""),))


def test_a_name_stands_there_once(report):
    with pytest.raises(ValueError, match="read back"):
        bundle(report, (MEMBERS[0], MEMBERS[0]))
