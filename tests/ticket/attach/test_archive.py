"""A bundle may come from anywhere: what is not whole, safe and as its manifest says is not sent."""

import hashlib
import io
import stat
import struct
import tracemalloc
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.base.errors import UsageError
from pcapdiag.ticket.attach import archive
from pcapdiag.ticket.attach.archive import open_bundle
from pcapdiag.ticket.manifest import NAME, Manifest, Member, format_manifest

pytestmark = pytest.mark.compiled_only

FILES = {"report.json": b'{"a": 1}' * 100, "ticket/github.md": b"**lost**\n", "charts/idle-gaps.png": bytes(256)}


def manifest_of(files):
    members = tuple(Member(n, len(c), hashlib.sha256(c).hexdigest()) for n, c in files.items())
    return format_manifest(Manifest("0123456789abcdef", "pcapdiag 0.1.0", True, False, members)).encode()


def zipped(entries, *, mode=stat.S_IFREG | 0o600, compression=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as bundle:
        for name, content in entries:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = compression
            with bundle.open(info, "w") as entry:
                entry.write(content)
    return file.getvalue()


def good():
    return zipped([(NAME, manifest_of(FILES)), *FILES.items()])


@pytest.fixture
def attempt(tmp_path):
    def attempt(data):
        path = tmp_path / "foreign.zip"
        path.write_bytes(data)
        with open_bundle(str(path)) as bundle:
            return bundle.manifest, bundle.sha256

    return attempt


def refused(attempt, data, words):
    with pytest.raises(UsageError, match=words):
        attempt(data)


def test_a_good_bundle_is_read(attempt):
    manifest, sha256 = attempt(good())
    assert manifest.report == "0123456789abcdef"
    assert sha256 == hashlib.sha256(good()).hexdigest()


def test_a_bundle_that_pcapdiag_wrote_is_read_whole(bundle, bundle_path):
    with bundle.reopened() as file:
        assert file.read() == bundle_path.read_bytes()
    assert bundle.name == f"pcapdiag-{bundle.manifest.report}-{bundle.sha256[:12]}.zip"
    assert "the upstream closed" in bundle.ticket("ticket/github.md")


@pytest.mark.parametrize(
    "name", ["../evil.md", "/etc/cron.d/evil", "a/../../evil", "C:\\evil", "..\\evil.md", "report.json/", "evil\x00.md"]
)
def test_a_name_that_climbs_out_of_the_folder_is_refused(attempt, name):
    refused(attempt, zipped([(NAME, manifest_of(FILES)), *FILES.items(), (name, b"")]), "lists other files")
    listed = manifest_of(FILES).replace(b"report.json", name.encode())
    refused(
        attempt, zipped([(NAME, listed), (name, FILES["report.json"]), *list(FILES.items())[1:]]), "MANIFEST is not"
    )


def test_a_link_among_the_entries_is_refused(attempt):
    refused(attempt, zipped([(NAME, manifest_of(FILES)), *FILES.items()], mode=stat.S_IFLNK | 0o777), "plain files")


def test_a_member_that_was_changed_is_named(attempt):
    changed = {**FILES, "report.json": FILES["report.json"].replace(b"1", b"2")}
    refused(attempt, zipped([(NAME, manifest_of(FILES)), *changed.items()]), r"report\.json is not what MANIFEST says")


@pytest.mark.parametrize("content", [FILES["report.json"][:-1], FILES["report.json"] + b" "])
def test_a_member_of_another_size_is_named(attempt, content):
    changed = {**FILES, "report.json": content}
    refused(attempt, zipped([(NAME, manifest_of(FILES)), *changed.items()]), r"report\.json is not what MANIFEST says")


def test_files_beside_the_manifest_must_be_those_that_it_lists(attempt):
    entries = [(NAME, manifest_of(FILES)), *FILES.items()]
    refused(attempt, zipped(entries[:-1]), "lists other files")
    refused(attempt, zipped([entries[0], *reversed(entries[1:])]), "lists other files")
    refused(attempt, zipped(entries[1:]), "first entry is not MANIFEST")
    refused(attempt, zipped([*entries[1:], entries[0]]), "first entry is not MANIFEST")


@pytest.mark.parametrize("data", [b"", b"PK", b"\0" * 100, b"not a zip" * 50, b"%PDF-1.7\n" + b"x" * 99])
def test_what_is_no_zip_is_refused(attempt, data):
    refused(attempt, data, "does not end as a bundle ends")


def test_a_zip_of_somebody_else_is_refused(attempt):
    refused(attempt, zipped([("readme.txt", b"hello")]), "first entry is not MANIFEST")


@given(cut=st.integers(1, 900))
def test_a_bundle_that_was_cut_is_refused(attempt, cut):
    data = good()
    refused(attempt, data[: max(len(data) - cut, 0)], "cannot be attached")


@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_flipped_bit_ends_in_a_refusal_or_changes_nothing(attempt, at, bit):
    data = bytearray(good())
    data[at % len(data)] ^= 1 << bit
    try:
        manifest, _ = attempt(bytes(data))
    except UsageError:
        return
    assert format_manifest(manifest).encode() == manifest_of(FILES)  # a time or a version field that says nothing


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("name", [NAME, "report.json"])
def test_a_bomb_is_not_unpacked(attempt, name, compression):
    """A few kilobytes that unpack to 64 MiB, while the manifest speaks of five bytes."""
    entries = [(NAME, manifest_of({"report.json": b"small"})), ("report.json", b"small")]
    bomb = zipped([(n, bytes(64 << 20) if n == name else c) for n, c in entries], compression=compression)
    assert len(bomb) < 100_000
    tracemalloc.start()
    try:
        refused(attempt, bomb, r"compressed in a way|what MANIFEST says|MANIFEST is not")
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_more_than_the_limit_is_refused_before_it_is_read(attempt):
    huge = Member("report.json", archive.MAX_UNPACKED_BYTES + 1, "ab" * 32)
    text = format_manifest(Manifest("0123456789abcdef", "pcapdiag 0.1.0", True, False, (huge,))).encode()
    refused(attempt, zipped([(NAME, text), ("report.json", b"")]), "unpacks to more than 2 GiB")


def test_a_ticket_larger_than_any_system_takes_is_refused(attempt):
    files = {"ticket/github.md": bytes(archive.MAX_TICKET_BYTES + 1)}
    refused(attempt, zipped([(NAME, manifest_of(files)), *files.items()]), "larger than any ticket takes")


def test_a_manifest_without_end_is_refused(attempt):
    refused(attempt, zipped([(NAME, b"#" * (8 << 20)), *FILES.items()]), "is not one")


def test_a_directory_of_a_million_entries_is_not_read(attempt):
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 65535, 65535, 0xFFFFFF00, 0, 0)
    refused(attempt, bytes(1000) + end, "does not end as a bundle ends")
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, 0, 1)
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 1, 1, 100, 0, 0)
    refused(attempt, bytes(1000) + locator + end, "does not end as a bundle ends")


def test_an_encrypted_entry_is_refused(attempt):
    data = bytearray(good())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = -1
        while (at := data.find(signature, at + 1)) >= 0:
            data[at + offset] |= 1
    refused(attempt, bytes(data), "cannot be attached")


def test_a_folder_and_nothing_cannot_be_read(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(UsageError, match="cannot open"), open_bundle(str(path)):
            pytest.fail("opened")


def test_a_ticket_that_is_not_there_is_asked_for_in_vain(tmp_path):
    path = tmp_path / "b.zip"
    path.write_bytes(good())
    with open_bundle(str(path)) as bundle, pytest.raises(UsageError, match=r"holds no ticket/jira\.txt"):
        bundle.ticket("ticket/jira.txt")
