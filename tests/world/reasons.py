"""Why the two programs see a capture differently: rules, each tested on what is in the capture.

A rule tells whether a difference is of its kind; `explain` returns the first that says so. What none knows is read
frame by frame and gets a row in `tests/world.tsv`, or stays unexplained.
"""

import re
from typing import NamedTuple

from pcapdiag.base.codes import FrameKind, TcpFlag, UndecodedReason
from tests.world.compare import OURS, TSHARK, Difference, count, differences, examine
from tests.world.engine import NOTHING, Outcome

_CARRIERS = {"udp", "wlan", "gre"}
_STATUS = re.compile(rb"HTTP/\d\.\d \d{3}[ \r\n]")
_LIKE_STATUS = re.compile(rb"\s{0,4}http/", re.IGNORECASE)
_REQUEST = re.compile(rb"[^\s]+ [^\s]+ HTTP/\d\.\d\r?\n")
_LIKE_REQUEST = re.compile(rb"[A-Z_]{3,}\s")


class Judged(NamedTuple):
    """What is kept of a capture: `counts` of `compare.count`, and the differences, each with its reason or none."""

    outcome: Outcome
    complaint: str
    counts: dict
    reasons: list[tuple[Difference, str]]


def judge(path):
    """Have both programs read a capture, and say why they differ."""
    examined = examine(path)
    reasons = [(difference, explain(difference, examined)) for difference in differences(examined)]
    return Judged(examined.outcome._replace(result=None), examined.seen.complaint, count(examined), reasons)


def explain(difference, examined):
    """Return the reason of a difference; an empty text where no rule knows it."""
    if difference.what == "frames" and difference.side == OURS and "network type" in examined.seen.complaint:
        return "a link type that tshark does not open"
    if examined.facts is None or not difference.frames:
        return ""
    return next(
        (reason for reason, side, is_so in RULES if side == difference.side and is_so(difference, examined)), ""
    )


def _facts(difference, examined):
    # Where the two number frames differently, one may name a frame that the other does not have.
    return [examined.facts.get(frame, NOTHING) for frame in difference.frames]


def _layers(difference, examined):
    return [examined.seen.layers.get(frame, []) for frame in difference.frames]


def _is_undecoded(*reasons):
    def is_so(difference, examined):
        facts = _facts(difference, examined)
        return all(fact.kind == FrameKind.UNDECODED and fact.reason in reasons for fact in facts)

    return is_so


def _is_first_fragment(difference, examined):
    """Find a fragment that tshark reads by itself; nothing completed it, or pcapdiag would know these ports."""
    ports = difference.subject.ports
    return all(fact.kind == FrameKind.FRAGMENT for fact in _facts(difference, examined)) and all(
        connection.ports != ports for connection in examined.ours.connections
    )


def _is_in_tunnel(difference, examined):
    """Below UDP, 802.11 or another carrier tshark found a TCP header; pcapdiag has the frame as what the outside is."""
    return all(
        fact.kind in {FrameKind.UDP, FrameKind.OTHER_IP, FrameKind.NON_IP}
        and "tcp" in layers
        and _CARRIERS & set(layers[: layers.index("tcp")])
        for fact, layers in zip(_facts(difference, examined), _layers(difference, examined), strict=True)
    )


def _is_message(difference):
    return difference.what in {"requests", "responses"}


def _is_head(difference, examined):
    """Find messages of which tshark lists as many as pcapdiag, as soon as it leaves contents aside."""
    message = difference.subject
    return _is_message(difference) and examined.heads.view.messages[message] >= examined.ours.messages[message]


def _is_behind_hole(difference, examined):
    """Find messages of a connection with a hole; tshark lists as many once it does not wait for what fills it."""
    message = difference.subject
    return (
        _is_message(difference)
        and message.ports in examined.ours.holes
        and examined.behind_holes.view.messages[message] >= examined.ours.messages[message]
    )


def _is_urgent(difference, examined):
    """Between the ports of this message urgent data was sent."""
    ports = difference.subject.ports
    return _is_message(difference) and any(
        flags & TcpFlag.URG
        for headers in examined.seen.headers.values()
        for _, between, flags in headers
        if between == ports
    )


def _is_odd_status_line(difference, examined):
    """Find a line that means to be a status line, and is none to the letter."""
    return difference.what == "responses" and all(
        _LIKE_STATUS.match(fact.head) and not _STATUS.match(fact.head) for fact in _facts(difference, examined)
    )


def _is_odd_request_line(difference, examined):
    """Find a line that begins with a method, and lacks its target or its version, or a blank between them."""
    return difference.what == "requests" and all(
        _LIKE_REQUEST.match(fact.head) and not _REQUEST.match(fact.head) for fact in _facts(difference, examined)
    )


def _is_on_syn_ack(difference, examined):
    both = TcpFlag.SYN | TcpFlag.ACK
    return difference.what == "requests" and all(
        any(flags & both == both for _, _, flags in examined.seen.headers.get(frame, ())) for frame in difference.frames
    )


def _frames_of(examined, what, ports, values=None):
    return sorted(
        frame
        for message, frames in examined.seen.view.frames_of.items()
        if (message.what, message.ports) == (what, ports) and (values is None or message.value in values)
        for frame in frames
    )


def _is_unasked(difference, examined):
    """Before each of these responses tshark itself has no request that was still without one."""
    if difference.what != "responses":
        return False
    requests = _frames_of(examined, "request", difference.subject.ports)
    responses = _frames_of(examined, "response", difference.subject.ports)
    return all(
        sum(asked <= frame for asked in requests) <= sum(told < frame for told in responses)
        for frame in difference.frames
    )


def _is_behind_connect(difference, examined):
    if not _is_message(difference):
        return False
    connects = _frames_of(examined, "request", difference.subject.ports, {"CONNECT"})
    return bool(connects) and connects[0] < difference.frames[0]


RULES = (
    ("a link type that is not decoded", TSHARK, _is_undecoded(UndecodedReason.LINK_TYPE)),
    (
        "IP or TCP headers that are cut off or contradict themselves",
        TSHARK,
        _is_undecoded(*(reason for reason in UndecodedReason if reason > UndecodedReason.LINK_TYPE)),
    ),
    ("a fragment of a datagram that is never whole", TSHARK, _is_first_fragment),
    ("a tunnel that is not opened", TSHARK, _is_in_tunnel),
    ("behind CONNECT", TSHARK, _is_behind_connect),
    ("no status line to the letter (RFC 9112 section 4), and not taken for one", TSHARK, _is_odd_status_line),
    ("a request line without target or version (RFC 9112 section 3)", TSHARK, _is_odd_request_line),
    ("bytes on a SYN-ACK are no request of the originator", TSHARK, _is_on_syn_ack),
    ("a response that no request asked for", TSHARK, _is_unasked),
    ("a message counts from its head on, whatever becomes of its content", OURS, _is_head),
    ("behind a segment that was never captured", OURS, _is_behind_hole),
    ("no status line to the letter (RFC 9112 section 4), but meant as one", OURS, _is_odd_status_line),
    ("urgent data stays in the stream (RFC 6093)", OURS, _is_urgent),
)
"""(reason, side that sees more, whether a difference is of this kind), the surer ones first."""
