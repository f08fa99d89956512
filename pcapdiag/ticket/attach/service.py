"""What every tracker does for a bundle, in which order, and what happens when it does not work out.

First the file, then the comment that names it. What is there already is used; a file that was sent for a comment that
is refused is taken back. So a run that failed can be repeated, and one that worked changes nothing when repeated.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pcapdiag.base.errors import AttachError
from pcapdiag.ticket.attach.transport import RefusedError, UnclearError, repeat, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_COMMENTS = 10_000
"""How many comments of a ticket are looked through for ours."""


_UNEXPECTED: tuple[type[Exception], ...] = (AssertionError, AttributeError, LookupError, TypeError, ValueError)
"""What client libraries raise over an answer without the fields, or of the types, that their API documents."""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A file as the server knows it: by which name to remove it, and where a comment may point."""

    key: str
    link: str = ""


class Service(Protocol):
    """One ticket of one tracker.

    Attributes
    ----------
    takes_files : bool
        Whether the bundle itself goes there.
    finds_files : bool
        Whether a file that was sent before can be found.
    """

    takes_files: bool
    finds_files: bool

    def find_comment(self) -> str | None:
        """Return the address of our comment, None if there is none."""

    def add_comment(self, file: Uploaded | None) -> str:
        """Write our comment and return its address."""

    def find_file(self) -> Uploaded | None:
        """Return the file if it is there whole; remove what a broken upload left."""

    def send_file(self) -> Uploaded:
        """Send the file."""

    def remove_file(self, file: Uploaded) -> None:
        """Remove the file again."""


def deliver(service: Service, *, say: Callable[[str], None], sleep: Callable[[float], None]) -> str:
    """Attach a bundle to a ticket.

    Parameters
    ----------
    service : Service
        The ticket.
    say : callable
        Told of every step that is done.
    sleep : callable
        Such as `time.sleep`.

    Returns
    -------
    str
        Address of the comment.

    Raises
    ------
    AttachError
        It could not be done; the text says what is left, if anything.
    """
    found = repeat(service.find_comment, say=say, sleep=sleep)
    file, is_new = None, False
    if service.takes_files and (found is None or service.finds_files):
        file, is_new = settle(service.find_file, service.send_file, say=say, sleep=sleep)
        say("the bundle was sent" if is_new else "the bundle is there already")
    if found is not None:
        say("the comment is there already")
        return found
    try:
        place, _ = settle(service.find_comment, lambda: service.add_comment(file), say=say, sleep=sleep)
    except UnclearError as error:
        # The comment may be there and name the file.
        left = "; the bundle stays there, and is used when the command is repeated" if is_new else ""
        msg = f"{error}{left if service.finds_files else ''}"
        raise AttachError(msg) from error
    except RefusedError as error:
        if file is None or not is_new:
            raise
        msg = f"{error}; {_take_back(service, file)}"
        raise AttachError(msg) from error
    say("the comment was written")
    return place


def _take_back(service: Service, file: Uploaded) -> str:
    try:
        service.remove_file(file)
    except AttachError as error:
        return f"the bundle that was sent before could not be removed again ({error})"
    return "the bundle that was sent before was removed again"


@contextmanager
def plain_answers(host: str, *errors: type[Exception]) -> Iterator[None]:
    """Turn what a client library makes of an unexpected answer into one sentence.

    Parameters
    ----------
    host : str
        Who answered.
    errors : type
        The library's own exceptions; their texts may hold whole answers, so they are not shown.

    Raises
    ------
    AttachError
        The answer is not one of the documented ones.
    """
    try:
        yield
    except (*errors, *_UNEXPECTED) as error:
        msg = f"{host} does not answer as its API does ({type(error).__name__}); is the URL that of a ticket?"
        raise AttachError(msg) from None
