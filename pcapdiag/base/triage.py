"""What can be said before there is a capture, as plain data: counted from logs, read from a configuration.

Knows no log and no output format; reports and triage know each other through it alone. Nothing in it is a cause.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CaptureAdvice:
    """How to make the next capture decidable.

    Attributes
    ----------
    command : tuple of str
        The lines of one command for a shell.
    filter : str
        What it captures, as pcap-filter(7) has it; it stands in the command.
    upstreams : tuple of str
        Addresses and ports that the filter names.
    remarks : tuple of str
        Sentences on what it captures and what it cannot.
    log_settings : tuple of str
        Lines for the proxy's configuration; empty where it has all of it.
    log_remark : str
        A sentence on what the log settings are for, or that nothing is missing.
    """

    command: tuple[str, ...]
    filter: str
    upstreams: tuple[str, ...]
    remarks: tuple[str, ...]
    log_settings: tuple[str, ...]
    log_remark: str


@dataclass(frozen=True, slots=True)
class MessageRow:
    """Entries of one kind about one upstream.

    Attributes
    ----------
    kind : str
        As in the ledger of a report.
    action : str
        During which step, as the log has it.
    errno : str
        Name of the error of the operating system, empty where there is none.
    words : str
        The message without what varies.
    upstream : str
        Address, or the name of a group of servers; empty where the entry names none.
    count : int
        How many.
    first, last : str
        Date and time of the first and the last, by the log's clock.
    """

    kind: str
    action: str
    errno: str
    words: str
    upstream: str
    count: int
    first: str
    last: str


@dataclass(frozen=True, slots=True)
class LogBurst:
    """Failures that followed each other closely; `first` and `last` by the log's clock."""

    first: str
    last: str
    count: int


@dataclass(frozen=True, slots=True)
class Recurrence:
    """Failures begin anew after about the same time: `fitting` of `intervals` between them are about `period_s` [s]."""

    period_s: int
    fitting: int
    intervals: int


@dataclass(frozen=True, slots=True)
class EmptyGroup:
    """Requests for which a group of servers had none left.

    Attributes
    ----------
    group : str
        As the log names it.
    count : int
        How many requests.
    first, last : str
        By the log's clock.
    after_failures : int
        How many of them came within `window_s` after another failure at one of `peers`.
    window_s : int
        [s] For how long a server that failed is left out.
    window_source : str
        Where that was read, or why it was assumed.
    peers : tuple of str
        The servers whose failures came before.
    """

    group: str
    count: int
    first: str
    last: str
    after_failures: int
    window_s: int
    window_source: str
    peers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClientCount:
    """What the access log counts: its requests, those answered by 5xx, and those whose client went away (499)."""

    requests: int
    by_status: dict[str, int]


@dataclass(frozen=True, slots=True)
class FailedTries:
    """Tries of the access log that got no answer, by what the log says of their connection.

    Attributes
    ----------
    tries : int
        Those whose connect time is logged.
    new : int
        On a connection that took time to open: no race on reuse took these.
    """

    tries: int
    new: int


@dataclass(frozen=True, slots=True)
class TimerOdds:
    """How long the proxy keeps idle connections, beside servers that close sooner as shipped.

    Attributes
    ----------
    upstream : str
        Group of servers, or one of them.
    keeps_s : float
        [s] How long an idle connection may be used again; -1: without a limit.
    source : str
        ``file:line``; empty if it was assumed.
    why : str
        Why it was assumed, or what is to be known of it.
    sooner : tuple of str
        Servers whose shipped idle timeout is no longer, with it.
    """

    upstream: str
    keeps_s: float
    source: str
    why: str
    sooner: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Triage:
    """What logs and configuration tell without a capture.

    Attributes
    ----------
    failures : int
        Failed tries and requests, each counted once; from the access log where no error log was given.
    counted_in : str
        ``error log``, ``access log``, ``log`` for one of a proxy that has both in one, or empty.
    clock : str
        Whose time the times are: ``UTC``, or ``local time of the log``.
    first, last : str
        Of the failures; empty if there are none.
    messages : tuple of MessageRow
        The most frequent first.
    left_out : int
        Failures of kinds that are too many to be listed.
    servers_disabled : int
        How often the proxy says that it left a server out.
    bursts : tuple of LogBurst
        The largest first.
    recurrence : Recurrence or None
        Whether they come back regularly.
    empty_groups : tuple of EmptyGroup
        Requests for which no server was left.
    clients : ClientCount or None
        None without an access log.
    tries : FailedTries or None
        None where no log tells.
    timers : tuple of TimerOdds
        What the configuration keeps longer than some servers do.
    unkept : tuple of str
        Groups of servers to which, by the configuration, no connection is kept: no race on reuse there.
    likely : tuple of str
        Sentences on what may be behind the messages; none is a cause.
    undecided : tuple of str
        Sentences on what packets would decide.
    capture : CaptureAdvice
        How to get them.
    notes : tuple of str
        What is odd about the files.
    """

    failures: int
    counted_in: str
    clock: str
    first: str
    last: str
    messages: tuple[MessageRow, ...]
    left_out: int
    servers_disabled: int
    bursts: tuple[LogBurst, ...]
    recurrence: Recurrence | None
    empty_groups: tuple[EmptyGroup, ...]
    clients: ClientCount | None
    tries: FailedTries | None
    timers: tuple[TimerOdds, ...]
    unkept: tuple[str, ...]
    likely: tuple[str, ...]
    undecided: tuple[str, ...]
    capture: CaptureAdvice
    notes: tuple[str, ...]
