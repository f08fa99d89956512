"""What rules say and reports show: plain frozen data, without markup, colour or escaping.

A `Finding` is something to act on; a `Note` says that the input is odd. Notes lower the confidence of findings, they
are not findings.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum


class Severity(IntEnum):
    """How bad a finding is for the service, whatever the certainty."""

    INFO = 0
    WARNING = 1
    ERROR = 2


class Confidence(IntEnum):
    """How certain a finding is, whatever its severity."""

    POSSIBLE = 0
    LIKELY = 1
    CONFIRMED = 2


class VerdictKind(IntEnum):
    """What a rule concluded about the whole input."""

    FOUND = 0
    CLEAN = 1
    NOT_EVALUATED = 2


class Role(Enum):
    """What the occurrences of a rule are: how they are counted and drawn."""

    CAUSE = "failures, or signs of them, that this rule explains"
    NO_PEER = "requests that found no peer: no packet shows them, the error log does, by its own clock"
    RETRIED = "tries that another rule explains, and whose request a later try answered"
    OUTSIDE = "failures that logs tell of and no packet here shows"
    UNEXPLAINED = "failures that no other rule explains: any lost request would fall to this one"


class Exposure(Enum):
    """What may be lost to a rule's cause: what a comparison counts, and what shows that the cause is gone."""

    REQUEST = "any request"
    CONNECTION = "any connection that is opened"
    REUSE = "a request on a reused connection"
    FORGOTTEN = "a request on a reused connection that something on the way may have forgotten"
    RACE = "a request on a reused connection that idles until the upstream closes it"


class Effect(Enum):
    """What the client of such a request gets, as an access log has it."""

    FAILS = "an error of the proxy's, or nothing"
    ANSWERED = "an error, although an answer came: it is one, or the proxy could not use it"
    CUT_OFF = "a status, and then not all of the answer: the log has that status"
    LEFT = "nothing: it has mostly gone away, and the log counts no failure"


@dataclass(frozen=True, slots=True)
class RuleFacts:
    """What a rule declares to those who show its findings; none of it is in a report.

    Attributes
    ----------
    role : Role
        What its occurrences are.
    settings : tuple of str
        Names of the proxy's settings that it rests on, as `pcapdiag.proxy.conf.describe` has them; with a leading
        underscore the end of a name (``_read_timeout``).
    exposure : Exposure
        What may be lost to it.
    risk_of : tuple of str
        Codes whose trouble it tells of before that costs a request; empty if it is no mere risk.
    goes_down : bool
        Whether a server that goes down, or does not come back, leaves such failures: several kinds may be one event.
    effect : Effect
        What clients get.
    """

    role: Role = Role.CAUSE
    settings: tuple[str, ...] = ()
    exposure: Exposure = Exposure.REQUEST
    risk_of: tuple[str, ...] = ()
    goes_down: bool = False
    effect: Effect = Effect.FAILS


@dataclass(frozen=True, slots=True)
class Note:
    """The input is odd: a capture note.

    `frame` is the 0-based frame it concerns (-1: none), `offset` the byte in its file (-1: none), `file` the path.
    """

    code: str
    text: str
    frame: int = -1
    offset: int = -1
    file: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One frame of the proof.

    `frame` is 0-based over the capture; `text` says in words what the segment proves; `seq`, `ack` are raw numbers and
    `rel_seq`, `rel_ack` relative to the stream (-1: none).
    """

    frame: int
    ts_ns: int
    dir: int
    flags: int
    seq: int
    ack: int
    rel_seq: int
    rel_ack: int
    payload_len: int
    ttl: int
    label: str
    text: str


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One place where the trouble happened; fields as in the JSON contract. Frames are 0-based, -1 is none."""

    conn: int
    depth: int
    uid: str
    orig: str
    resp: str
    request_frame: int
    request_ts_ns: int
    idle_before_ns: int
    method: str
    target: str
    closing_frame: int
    closing_kind: str
    evidence: tuple[Evidence, ...] = ()
    host: str = ""
    request_id: str = ""
    log_lines: tuple[str, ...] = ()
    upstream_log: str = ""
    """What the application's own log says of the request, in a sentence."""
    stands_for: int = 1
    """How many like it the finding counts it for, itself included: more than one only in a flood."""


@dataclass(frozen=True, slots=True)
class Change:
    """One setting of the proxy to change, in the proxy's own language.

    Attributes
    ----------
    proxy : str
        Whose language it is in: ``nginx``, ``APISIX``, ``ingress-nginx`` or ``Kong``.
    file : str
        Where the setting stands, or its block where the setting `is_new`; as the operator named the configuration.
        Empty if neither is in a file that was given.
    line : int
        In `file`, from 1; -1 if it is not known.
    where : str
        The block, object or file that it belongs to, in words.
    setting : str
        Name of the directive, parameter or key.
    old, new : str
        The values as the proxy writes them; an empty `old`: there is none, an empty `new`: remove it.
    old_text, text : str
        What stands there and what to write instead; empty where nothing stands there, or something is to be removed.
    old_is_assumed : bool
        `old` is not written anywhere, it is the default.
    is_new : bool
        The setting is not there yet.
    since : str
        The first version of nginx that knows the setting; empty where every version does that is in use.
    is_supported : bool or None
        Whether this proxy's version knows it; None if the version is not known.
    caution : str
        What else it brings; empty if nothing.
    """

    proxy: str
    file: str
    line: int
    where: str
    setting: str
    old: str
    new: str
    old_text: str
    text: str
    old_is_assumed: bool
    is_new: bool
    since: str = ""
    is_supported: bool | None = True
    caution: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One root cause, with every request it explains.

    `subject` is what it is about (an upstream endpoint), `message` the one sentence to show if only one can be shown,
    `identifier` the key that makes the same trouble the same on two nights, `refuted_by` the observation that would
    have proved it wrong, `remedy` paragraphs in the proxy's own language, `changes` what of it is to be changed in the
    configuration that was given, `facts` what its rule declares.
    """

    code: str
    name: str
    title: str
    severity: Severity
    confidence: Confidence
    subject: str
    message: str
    identifier: str
    count: int
    first_ts_ns: int
    last_ts_ns: int
    refuted_by: str
    remedy: str
    occurrences: tuple[Occurrence, ...] = ()
    details: dict[str, int | str | float] = field(default_factory=dict)
    changes: tuple[Change, ...] = ()
    facts: RuleFacts = RuleFacts()


@dataclass(frozen=True, slots=True)
class Verdict:
    """A rule's verdict on the whole input; `reason` is never empty when it was not evaluated."""

    code: str
    kind: VerdictKind
    reason: str = ""
    role: Role = Role.CAUSE
