"""Files that are obeyed are opened only where nobody else can have put them."""

import os
from pathlib import Path

import pytest

from pcapdiag.base.trusted import UntrustedError, open_trusted

OTHER = 65534


@pytest.fixture
def place(tmp_path):
    """Return a file in a folder of a folder, all private."""
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True, mode=0o755)
    (folder / "file").write_bytes(b"content")
    return folder / "file"


def read(path, **options):
    with os.fdopen(open_trusted(path, **options), "rb") as file:
        return file.read()


def test_a_file_of_ones_own_is_read(place, monkeypatch):
    assert read(place) == b"content"
    monkeypatch.chdir(place.parent)
    assert read(place.relative_to(place.parent)) == b"content"


@pytest.mark.parametrize("mode", [0o757, 0o777])
@pytest.mark.parametrize("up", [0, 1, 2])
def test_what_everybody_may_write_to_is_refused_wherever_it_is_on_the_way(up, mode, place):
    given = [place, *place.parents][up]
    given.chmod(mode)
    with pytest.raises(UntrustedError, match=f"everybody may write to {given}: chmod o-w {given}"):
        open_trusted(place)


def test_a_group_that_may_write_is_refused_unless_it_is_the_users_alone(place):
    place.chmod(0o664)
    os.chown(place, -1, 0)
    assert read(place) == b"content"
    if os.geteuid() == 0:
        os.chown(place, -1, OTHER)
        with pytest.raises(UntrustedError, match="group 65534 may write to"):
            open_trusted(place)


def test_a_folder_like_tmp_is_no_reason_to_refuse(place):
    place.parent.parent.chmod(0o1777)
    assert read(place) == b"content"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("up", [0, 1, 2])
def test_what_belongs_to_another_user_is_refused_unless_that_user_is_trusted(up, place):
    os.chown([place, *place.parents][up], OTHER, -1)
    with pytest.raises(UntrustedError, match="belongs to user 65534"):
        open_trusted(place)
    assert read(place, owners={OTHER}) == b"content"


def test_a_link_is_refused_and_a_linked_folder_is_looked_at_where_it_leads(place, tmp_path):
    (tmp_path / "link").symlink_to(place)
    with pytest.raises(UntrustedError, match="link is a link"):
        open_trusted(tmp_path / "link")
    (tmp_path / "folder").symlink_to(place.parent)
    assert read(tmp_path / "folder" / "file") == b"content"
    place.parent.chmod(0o777)
    with pytest.raises(UntrustedError, match="everybody may write"):
        open_trusted(tmp_path / "folder" / "file")


def test_what_is_no_file_is_refused_at_once_and_what_is_missing_is_missing(place):
    os.mkfifo(place.parent / "pipe")
    with pytest.raises(UntrustedError, match="is no file"):
        open_trusted(place.parent / "pipe")
    for missing in ("none", "none/file"):
        with pytest.raises(FileNotFoundError):
            open_trusted(place.parent / missing)


def test_no_descriptor_stays_open(place):
    place.parent.chmod(0o777)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path in (place, place.parent / "none"):
        with pytest.raises((UntrustedError, OSError)):
            open_trusted(path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("mode", [0o757, 0o777])
@pytest.mark.parametrize("up", [1, 2])
def test_a_folder_that_others_write_to_is_no_matter_beside_code_that_they_could_change(up, mode, place):
    code = place.with_name("code.py")
    code.write_bytes(b"")
    place.parents[up - 1].chmod(mode)
    assert read(place, beside=code) == b"content"
    with pytest.raises(UntrustedError, match="everybody may write to"):
        open_trusted(place, beside=place.parent.parent / "elsewhere.py")


@pytest.mark.parametrize(("of_file", "of_code", "is_read"), [(0o646, 0o644, False), (0o646, 0o646, True)])
def test_a_file_is_as_writable_as_the_code_beside_it_at_most(of_file, of_code, is_read, place):
    code = place.with_name("code.py")
    code.write_bytes(b"")
    place.chmod(of_file)
    code.chmod(of_code)
    if is_read:
        assert read(place, beside=code) == b"content"
    else:
        with pytest.raises(UntrustedError, match="everybody may write to"):
            open_trusted(place, beside=code)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_beside_code_a_file_of_somebody_else_and_one_of_another_group_are_refused(place):
    code = place.with_name("code.py")
    code.write_bytes(b"")
    place.chmod(0o664)
    code.chmod(0o664)
    os.chown(code, 0, OTHER)
    os.chown(place, 0, OTHER)
    assert read(place, beside=code) == b"content"
    os.chown(place, 0, OTHER - 1)
    with pytest.raises(UntrustedError, match=f"group {OTHER - 1} may write to"):
        open_trusted(place, beside=code)
    os.chown(place, OTHER, 0)
    with pytest.raises(UntrustedError, match=f"belongs to user {OTHER}"):
        open_trusted(place, beside=code)


def test_beside_code_a_link_is_refused_and_nothing_stays_open(place):
    code = place.with_name("code.py")
    code.write_bytes(b"")
    link = place.with_name("link")
    link.symlink_to(place)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for name in (link, place.with_name("missing")):
        with pytest.raises((UntrustedError, FileNotFoundError)):
            open_trusted(name, beside=code)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
