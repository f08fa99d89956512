"""HTTP/1 heads with their secrets masked, byte for byte in the same place: sequence numbers must go on fitting.

Knows start lines and fields (RFC 9112); not where in a stream a head begins. What cannot be read as a head is not kept.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from pcapdiag.privacy.fields import METHODS, find_in_field, is_known_reason
from pcapdiag.privacy.names import is_name
from pcapdiag.privacy.secret import FIELD_VALUE, METHOD, REASON
from pcapdiag.privacy.urls import find_in_target

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pcapdiag.privacy.redact import Redactor
    from pcapdiag.privacy.secret import Secret

MAX_HEAD_BYTES: Final = 64 << 10
"""[bytes] Beyond that nothing of a head is kept: no server that people run accepts longer ones."""

FILLER: Final = b"*"

_REQUEST_LINE: Final = re.compile(
    rb"(?P<method>[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) (?P<target>[^ \r\n]+)(?: HTTP/1\.[01])\r?"
)
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] (?P<status>[1-9][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*)?\r?")
_FIELD_LINE: Final = re.compile(rb"(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+):(?P<blank>[ \t]*)(?P<value>[^\r]*)")


class Head(NamedTuple):
    """A head that may be shown.

    Attributes
    ----------
    data : bytes
        As long as what was read of it.
    is_whole : bool
        Whether its empty line was there.
    is_interim : bool
        Whether the final response is still to come behind it.
    """

    data: bytes
    is_whole: bool
    is_interim: bool


def find_end(data: bytes, start: int = 0) -> int:
    """Return where a head ends, behind its empty line; -1 if the empty line is not there.

    Parameters
    ----------
    data : bytes
        From the first byte of the head on.
    start : int
        Where the search may begin: everything before holds no empty line.

    Returns
    -------
    int
    """
    at = start
    while (line_end := data.find(b"\n", at)) >= 0:
        if data[line_end + 1 : line_end + 2] == b"\n":
            return line_end + 2
        if data[line_end + 1 : line_end + 3] == b"\r\n":
            return line_end + 3
        at = line_end + 1
    return -1


def mask_head(data: bytes, redactor: Redactor, *, is_request: bool, anonymize: bool = False) -> Head:
    """Return a head with its secrets masked.

    Parameters
    ----------
    data : bytes
        A head up to and with its empty line, or its beginning.
    redactor : Redactor
        Counts what is masked.
    is_request : bool
        Whether it begins with a request line.
    anonymize : bool
        Whether values that name machines are masked, too; but for Host, which somebody else replaces.

    Returns
    -------
    Head
        Empty if it does not begin like a head.
    """
    if len(data) > MAX_HEAD_BYTES:
        return Head(b"", is_whole=False, is_interim=False)
    lines = data.split(b"\n")
    masked: list[bytes] = []
    start_line = b""
    for number, line in enumerate(lines):
        is_last = number == len(lines) - 1
        content = line.removesuffix(b"\r")
        if not start_line:
            if not content and not is_last:  # RFC 9112 section 2.2: empty lines before a request are ignored
                masked.append(line)
                continue
            start_line = content
            shown = _mask_start_line(line, redactor, is_request=is_request, is_cut=is_last)
            if shown is None:
                return Head(b"", is_whole=False, is_interim=False)
            masked.append(shown)
        elif is_last:
            masked.append(_fill(line))  # cut in the middle: nobody knows what it was to become
        elif line[:1] in {b" ", b"\t"}:  # a value that goes on, obsolete since RFC 7230
            masked.append(_fill(content) + line[len(content) :])
        else:
            masked.append(_mask_field(line, redactor, anonymize=anonymize))
    status = _STATUS_LINE.fullmatch(start_line)
    is_whole = lines[-1] == b"" and len(lines) > 2 and lines[-2] in {b"", b"\r"}
    is_interim = status is not None and status["status"][:1] == b"1" and status["status"] != b"101"
    return Head(b"\n".join(masked), is_whole=is_whole, is_interim=is_whole and is_interim)


def _fill(data: bytes) -> bytes:
    return FILLER * len(data)


def _mask_start_line(line: bytes, redactor: Redactor, *, is_request: bool, is_cut: bool) -> bytes | None:
    """Return a start line without secrets, None if it is none."""
    if not is_request:
        match = _STATUS_LINE.fullmatch(line)
        if is_cut or match is None:
            return None
        content, at = line.removesuffix(b"\r"), match.end("status") + 1
        if is_known_reason(content[at:].decode("latin-1")):
            return line
        redactor.count(REASON, "")
        return line[:at] + _fill(content[at:]) + line[len(content) :]
    match = _REQUEST_LINE.fullmatch(line)
    if is_cut or match is None:
        return None
    start, end = match.span("target")
    method = line[:start]
    if match["method"].decode("ascii") not in METHODS:
        redactor.count(METHOD, "")
        method = _fill(match["method"]) + b" "
    target = line[start:end]
    return method + _masked(target, find_in_target(target.decode("latin-1")), redactor) + line[end:]


def _mask_field(line: bytes, redactor: Redactor, *, anonymize: bool) -> bytes:
    """Return a field line without secrets."""
    content = line.removesuffix(b"\r")
    if not content:
        return line
    match = _FIELD_LINE.fullmatch(content)
    rest = line[len(content) :]
    name = match["name"].decode("ascii") if match else ""
    if match is None or not is_name(name):
        redactor.count(FIELD_VALUE, "")
        return _fill(content) + rest
    value = match["value"].rstrip(b" \t")
    start = match.start("value")
    shown = _masked(value, find_in_field(name, value.decode("latin-1"), anonymize=anonymize), redactor)
    return content[:start] + shown + content[start + len(value) :] + rest


def _masked(data: bytes, secrets: Iterable[Secret], redactor: Redactor) -> bytes:
    """Return bytes with the secrets in them filled."""
    masked = bytearray(data)
    for secret in secrets:
        masked[secret.start : secret.end] = FILLER * (secret.end - secret.start)
        redactor.count(secret.kind, secret.name)
    return bytes(masked)
