"""What may leave the machine: credentials and the values of query strings and fields stay where they were captured.

A report goes into tickets and chats, and a request carries tokens. Names of parameters and fields stay, because they
tell which call it was. `Redactor` is the one way on which a text leaves, whatever is made of it; what a secret looks
like in a URL, a field or a line is known to its neighbours. Nothing here knows of reports or packets.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeVar

from pcapdiag.base.walk import map_texts
from pcapdiag.privacy.fields import METHODS, find_in_field
from pcapdiag.privacy.names import is_name
from pcapdiag.privacy.secret import LOG_VALUE, Secret
from pcapdiag.privacy.texts import find_in_text
from pcapdiag.privacy.urls import find_in_target

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")

MASK = "***"

_VERSION: Final = re.compile(r"(?: HTTP/[0-9](?:\.[0-9])?)?$")
_MOST_NAMES: Final = 500
_MOST_REMEMBERED: Final = 1 << 16
_LONGEST_REMEMBERED: Final = 4096


class Redactor:
    """Masks texts and keeps count of what it masked.

    Parameters
    ----------
    active : bool
        Whether to mask at all.
    """

    def __init__(self, *, active: bool = True) -> None:
        self.active = active
        self._counts: Counter[tuple[str, str]] = Counter()
        self._remembered = lru_cache(maxsize=_MOST_REMEMBERED)(_mask)

    def target(self, target: str) -> str:
        """Return a request target, or any URL, without secrets."""
        return self._without(target, "target")

    def text(self, text: str) -> str:
        """Return free text without what looks like a secret."""
        return self._without(text, "")

    def field(self, name: str, value: str) -> str:
        """Return the text of a column or field without secrets; its name in our tables tells its grammar."""
        return self._without(value, name)

    def everything(self, value: _T) -> _T:
        """Return plain data without secrets in any text of it; what a text is, its field's name tells.

        Parameters
        ----------
        value : object
            Dataclasses, named tuples, tuples, lists, dicts, texts and numbers.

        Returns
        -------
        object
            Of the same kind.
        """
        return map_texts(value, self._without) if self.active else value

    def count(self, kind: str, name: str, number: int = 1) -> None:
        """Note that something was masked.

        Parameters
        ----------
        kind : str
            What it was, in words.
        name : str
            Of the parameter or field; it comes out of the capture: what is no name, or too many, are counted without.
        number : int
            How often.
        """
        if not is_name(name) or (len(self._counts) >= _MOST_NAMES and (kind, name) not in self._counts):
            name = ""
        self._counts[kind, name] += number

    @property
    def counts(self) -> tuple[tuple[str, str, int], ...]:
        """Kind, name and number of everything masked, in order of kind and name."""
        return tuple((kind, name, n) for (kind, name), n in sorted(self._counts.items()))

    def _without(self, text: str, field: str) -> str:
        if not self.active or not text or field in _OURS:
            return text
        masked, secrets = (self._remembered if len(text) <= _LONGEST_REMEMBERED else _mask)(text, field)
        for secret in secrets:
            self.count(secret.kind, secret.name)
        return masked


def _mask(text: str, field: str) -> tuple[str, tuple[Secret, ...]]:
    """Return a text of a field without secrets, and those that were not masked before."""
    secrets = tuple(s for s in _FINDERS.get(field, find_in_text)(text) if text[s.start : s.end] != MASK)
    if not secrets:
        return text, ()
    starts, ends = [s.start for s in secrets], [s.end for s in secrets]
    return MASK.join(text[end:start] for end, start in zip([0, *ends], [*starts, None], strict=True)), secrets


def _find_in_request(request: str) -> list[Secret]:
    """Return the secrets of a request line as a log has it; all of it where it is none."""
    method, _, rest = request.partition(" ")
    if method not in METHODS:
        return [Secret(0, len(request), LOG_VALUE, "")]
    at = len(method) + 1
    version = _VERSION.search(rest)
    end = len(request) - (len(version[0]) if version else 0)
    target, _, more = request[at:end].partition(" ")
    found = [s._replace(start=s.start + at, end=s.end + at) for s in find_in_target(target)]
    return [*found, Secret(end - len(more), end, LOG_VALUE, "")] if more else found


def _find_in_method(method: str) -> list[Secret]:
    return [] if method in METHODS else [Secret(0, len(method), LOG_VALUE, "")]


def _in_field(name: str) -> Callable[[str], list[Secret]]:
    return lambda value: find_in_field(name, value)


_FIELDS: Final = {"host": "host", "server": "server", "server_field": "server", "request_id": "x-request-id"}
_FINDERS: Final[dict[str, Callable[[str], list[Secret]]]] = {
    "method": _find_in_method,
    "target": find_in_target,
    "upstream": find_in_target,
    "request": _find_in_request,
    **{field: _in_field(name) for field, name in _FIELDS.items()},
}
_OURS: Final = frozenset(
    """
    display_filter identifier identifiers sha256 uid
    """.split()  # noqa: SIM905 - a list of words is easier to read
)
"""Fields whose texts are made here, of numbers and of our own words."""
