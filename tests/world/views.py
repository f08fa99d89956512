"""What a program makes of one capture, in a form that two programs can be compared in."""

from collections import Counter
from typing import NamedTuple


class Connection(NamedTuple):
    """A TCP connection: the frame (from 1) that begins it and its two ports, the smaller first."""

    frame: int
    ports: tuple[int, int]


class Message(NamedTuple):
    """An HTTP/1 message: `request` with its method or `response` with its status code, between two ports.

    Interim responses (1xx but 101) are part of the exchange of the final one, and not listed.
    """

    what: str
    value: str
    ports: tuple[int, int]


class View(NamedTuple):
    """Connections and messages of a capture.

    Attributes
    ----------
    frames_of : dict
        {message: frames (from 1) that it was told of in}.
    holes : frozenset
        Pairs of ports between which stream bytes are missing; only of pcapdiag.
    """

    n_frames: int
    connections: Counter
    messages: Counter
    frames_of: dict
    holes: frozenset = frozenset()


def ports_of(one, other):
    """Return two ports, the smaller first."""
    return (one, other) if one <= other else (other, one)


def is_final(status):
    """Tell whether a response with this status code, as text, ends its exchange."""
    return not status.startswith("1") or status == "101"
