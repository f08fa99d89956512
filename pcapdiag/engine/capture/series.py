"""Finds the captures that paths, folders and globs name, and joins the files of a rotation series.

Knows how `tcpdump -C/-G/-W` and dumpcap name their files. A name only proposes: files are one series when their times
follow one another as well. Reads no more of a file than it takes to see that.
"""

from __future__ import annotations

import glob
import re
import stat
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pcapdiag.base.errors import CaptureError, UsageError
from pcapdiag.base.findings import Note
from pcapdiag.base.suggest import cannot_open
from pcapdiag.engine.capture.batch import Capture, CaptureFile
from pcapdiag.engine.capture.remote import find_remote, is_url
from pcapdiag.engine.capture.sniff import HEAD_BYTES, container_of, not_a_capture
from pcapdiag.engine.capture.sources import STDIN, open_source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_COMPRESSED_NAME: Final = re.compile(r"\.(gz|zst|zstd|xz|bz2|lz4)$", re.IGNORECASE)
_CAPTURE_NAME: Final = re.compile(r"(.*\.(?:pcapng|pcap|ntar|cap|dmp|dump|trc))(?:\.?(\d+))?", re.IGNORECASE)
_ADDRESS: Final = r"(?<![\d.])(?:\d{1,2}|1\d\d|2[0-4]\d|25[0-5])(?:\.(?:\d{1,2}|1\d\d|2[0-4]\d|25[0-5])){3}(?![\d.])"
_COUNTER: Final = r"\d{4,}|(?<![^-_.T:+ ])\d{2,}(?![^-_.T:+Z ])"
_ADDRESS_OR_COUNTER: Final = re.compile(f"({_ADDRESS})|(?:{_COUNTER})")
_OVERLAP_NS: Final = 1_000_000_000  # buffers of several CPUs are drained out of order


@dataclass(slots=True)
class _Found:
    """A file that a spec leads to; `is_named` if it was named itself, not through a folder or glob."""

    path: str
    size: int
    is_pipe: bool = False
    is_packed: bool = False
    is_empty: bool = False
    is_named: bool = False
    times_ns: tuple[int, int] = (-1, -1)


def group_captures(specs: Sequence[str]) -> list[Capture]:
    """Return the captures that `specs` name, each with its files in time order.

    Parameters
    ----------
    specs : sequence of str
        Paths, folders (their capture files, not those of folders within), globs, URLs of any of them, and ``-`` for
        standard input.

    Returns
    -------
    list of Capture
        In the order in which they were named; a file named twice is read once. A series is one capture.

    Raises
    ------
    CaptureError
        Something does not exist, cannot be opened or is not a capture, or a folder or glob holds none.
    MissingExtraError
        The package for a URL is not installed.
    UsageError
        A URL makes no sense, or a name is empty.
    """
    groups: dict[tuple[str, str], list[_Found]] = {}
    seen: set[str] = set()
    for spec in specs:
        if not spec:
            msg = "a capture with an empty name: is a variable not set?"
            raise UsageError(msg)
        for found in _find_remote(spec) if is_url(spec) else _find(spec):
            identity = _identity(found.path)
            if identity in seen:
                continue
            seen.add(identity)
            key = (found.path, "") if found.is_pipe else series_of(found.path)
            groups.setdefault(key, []).append(found)
    return [capture for members in groups.values() for capture in _captures(members)]


def series_key(name: str) -> str:
    """Return what the names of all files of a rotation series have in common.

    Parameters
    ----------
    name : str
        File name without folder.

    Returns
    -------
    str
        The name with times and counters replaced; names of one series give the same text.
    """
    stem = _COMPRESSED_NAME.sub("", name)
    match = _CAPTURE_NAME.fullmatch(stem)
    # `tcpdump -C` appends its counter to the very end, behind the suffix or to a name without one.
    base = match.group(1) if match else stem.rstrip("0123456789") or stem
    return _ADDRESS_OR_COUNTER.sub(lambda found: found.group(1) or "#", base)


def is_capture_name(name: str) -> bool:
    """Return whether a file name says that it is a capture, whatever counter or compression it ends with."""
    return _CAPTURE_NAME.fullmatch(_COMPRESSED_NAME.sub("", name)) is not None


def begins_like_capture(path: str) -> bool:
    """Return whether the first bytes of a file, unpacked, are those of a capture.

    Parameters
    ----------
    path : str
        A path or URL.

    Returns
    -------
    bool

    Raises
    ------
    CaptureError
        It cannot be opened.
    """
    return bool(container_of(_read_head(path)[0]))


def series_of(path: str) -> tuple[str, str]:
    """Return the folder of a file and what its name has in common with the others of its series, if there are any."""
    if is_url(path):
        folder, _, name = path.rpartition("/")
        return folder, series_key(name)
    return str(Path(path).parent.resolve()), series_key(Path(path).name)


def _identity(path: str) -> str:
    return path if path == STDIN or is_url(path) else str(Path(path).resolve())


def _find_remote(url: str) -> Iterator[_Found]:
    """Yield the files that a URL names; of folders and globs those whose name is that of a capture."""
    n_found = 0
    for file in find_remote(url, recursive=False):
        if not file.is_named and not is_capture_name(file.url.rpartition("/")[2]):
            continue
        if file.size == 0 and not file.is_named:
            yield _Found(file.url, 0, is_empty=True)
            continue
        head, compression = _read_head(file.url)
        if container_of(head):
            n_found += 1
            yield _Found(file.url, file.size, is_packed=bool(compression))
        elif file.is_named:
            raise CaptureError(not_a_capture(file.url, head, compression))
    if not n_found:
        msg = f"{url} leads to no capture"
        raise CaptureError(msg)


def _find(spec: str) -> Iterator[_Found]:
    """Yield the files that one spec names; only those of folders and globs may turn out to be something else."""
    if spec == STDIN:
        yield _Found(STDIN, -1, is_pipe=True)
        return
    if Path(spec).is_dir():
        try:
            candidates = sorted(str(path) for path in Path(spec).iterdir())
        except OSError as error:
            msg = f"cannot look into {spec}: {error.strerror}"
            raise CaptureError(msg) from error
        problem = f"the folder {spec} holds no capture (folders within it are not searched)"
    elif not Path(spec).exists() and glob.has_magic(spec):
        candidates = sorted(glob.glob(spec))  # noqa: PTH207 - Path.glob takes no absolute pattern
        problem = f"{spec} matches no capture" if candidates else f"{spec} matches no file"
    else:
        found = _look_at(spec)
        if found is None:
            raise CaptureError(_why_not(spec))
        found.is_named = True
        yield found
        return
    n_found = 0
    for path in candidates:
        if Path(path).is_file() and (found := _look_at(path)) is not None:
            n_found += not found.is_empty
            yield found
    if not n_found:
        raise CaptureError(problem)


def _look_at(path: str) -> _Found | None:
    """Return what is known of a capture file, or of an empty one, from its first bytes; None if it is neither."""
    try:
        status = Path(path).stat()
    except OSError as error:
        raise CaptureError(cannot_open(path, error)) from error
    if not stat.S_ISREG(status.st_mode):
        return _Found(path, -1, is_pipe=True)
    if status.st_size == 0:
        return _Found(path, 0, is_empty=True)
    head, compression = _read_head(path)
    if not container_of(head):
        return None
    return _Found(path, status.st_size, is_packed=bool(compression))


def _read_head(path: str) -> tuple[bytes, str]:
    with open_source(path) as source:
        buffer = bytearray(HEAD_BYTES)
        n_read = source.fill(memoryview(buffer))
        return bytes(buffer[:n_read]), source.compression


def _why_not(path: str) -> str:
    head, compression = _read_head(path)
    return not_a_capture(path, head, compression)


def _captures(members: list[_Found]) -> Iterator[Capture]:
    """Turn files whose names could be those of one series into one capture, or into one each."""
    empty = [found for found in members if found.is_empty]
    files = [found for found in members if not found.is_empty]
    if not files:
        for found in empty:
            if found.is_named:
                raise CaptureError(not_a_capture(found.path, b""))
        return
    series = _in_time_order(files) if len(files) > 1 else files
    for group in [series] if series else [[found] for found in files]:
        capture = Capture([CaptureFile(found.path, size=found.size) for found in group])
        # The newest file of a running rotation may not have been written to yet.
        capture.notes = [Note("empty-file", "the file holds no byte yet", file=found.path) for found in empty]
        empty = []
        yield capture


def _in_time_order(files: list[_Found]) -> list[_Found]:
    """Return the files in time order, or an empty list if they are no series."""
    from pcapdiag.engine.capture.peek import peek_times  # noqa: PLC0415 - loads the compiler, which a single file needs later

    for found in files:
        found.times_ns = peek_times(found.path, found.size, is_packed=found.is_packed)
    # A file without frames keeps its place behind its neighbour by name.
    ordered: list[tuple[int, int, _Found]] = []
    first_ns = -1
    for place, found in enumerate(sorted(files, key=_natural_key)):
        first_ns = found.times_ns[0] if found.times_ns[0] >= 0 else first_ns
        ordered.append((first_ns, place, found))
    series = [found for _, _, found in sorted(ordered, key=lambda entry: entry[:2])]
    timed = [found for found in series if found.times_ns[0] >= 0]
    for before, after in pairwise(timed):
        if after.times_ns[0] <= before.times_ns[0]:
            return []
        if before.times_ns[1] > after.times_ns[0] + _OVERLAP_NS:
            return []
        if before.times_ns[1] < 0 and not _is_certain_name(before.path):
            return []
    return series


def _natural_key(found: _Found) -> list[tuple[int, str]]:
    name = _COMPRESSED_NAME.sub("", Path(found.path).name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name) if part]


def _is_certain_name(path: str) -> bool:
    """Tell whether a name says by itself that its file belongs to a series: a date and time, or dumpcap's counter."""
    return bool(re.search(r"\d{5,}|\d\d[-_:.]?\d\d[-_:.]?\d\d", Path(path).name))
