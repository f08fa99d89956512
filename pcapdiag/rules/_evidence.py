"""The frames of a proof, in words: one `Evidence` per key segment of a lost request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcapdiag.base.codes import Direction, ExchangeFlag, Key, TcpFlag
from pcapdiag.base.findings import Evidence
from pcapdiag.base.sequence import relative_sequence, sequence_difference
from pcapdiag.base.units import format_address, format_endpoint
from pcapdiag.rules._records import end_text
from pcapdiag.rules._streams import stream_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pcapdiag.analysis.model import KeySegment, Loss
    from pcapdiag.engine.asides.icmp import IcmpError

_NOT_WHOLE = ExchangeFlag.REQUEST_OPEN | ExchangeFlag.EARLY_RESPONSE
MOST_WITH_EVIDENCE = 500
"""Occurrences of a finding that come with their frames: a flood of failures needs no flood of proofs."""

_MOST_ICMP = 3
"""Of the ICMP errors that quote one request again and again."""

_LABELS = {
    Key.SYN: "SYN",
    Key.SYN_ACK: "SYN-ACK",
    Key.RESPONSE_BEFORE: "last response before",
    Key.REQUEST: "request",
    Key.REQUEST_END: "end of request",
    Key.RETRANSMISSION: "retransmission",
    Key.LAST_RETRANSMISSION: "last retransmission",
    Key.ACK: "acknowledgement",
    Key.RESP_FIN: "FIN of the upstream",
    Key.ORIG_FIN: "FIN of the proxy",
    Key.RESP_RST: "RST from the upstream's side",
    Key.ORIG_RST: "RST of the proxy",
    Key.RESPONSE: "response",
    Key.UNSOLICITED: "TLS alert of the upstream",
    Key.RESPONSE_END: "last of the response",
    Key.ZERO_WINDOW: "window of zero",
    Key.ORIG_ZERO_WINDOW: "window of zero of the proxy",
    Key.RESP_RESET_STREAM: "RST_STREAM of the upstream",
    Key.ORIG_RESET_STREAM: "RST_STREAM of the proxy",
    Key.GOAWAY: "GOAWAY of the upstream",
    Key.KEEP_ALIVE_ACK: "answer to a keep-alive probe",
    Key.RESP_END_REQUEST: "FCGI_END_REQUEST of the upstream",
    Key.ORIG_ABORT: "FCGI_ABORT_REQUEST of the proxy",
    Key.RESP_STDERR: "records without output",
    Key.CREDIT_USED: "credit used up",
}

_TEXTS = {
    Key.SYN: "the proxy asks for a connection",
    Key.SYN_ACK: "the upstream accepts the connection",
    Key.RESPONSE_BEFORE: "end of the response before: from here on the connection is idle",
    Key.KEEP_ALIVE_ACK: "the last keep-alive probe that was answered: until here the path knew the connection",
    Key.REQUEST: "the request is sent",
    Key.REQUEST_END: "the last byte of the request is sent",
    Key.RETRANSMISSION: "the request is sent again, because nothing acknowledged it",
    Key.LAST_RETRANSMISSION: "and again, for the last time in this capture",
    Key.ACK: "the upstream's kernel has the whole request",
    Key.ORIG_FIN: "the proxy closes",
    Key.ORIG_RST: "the proxy resets the connection",
    Key.RESPONSE: "response bytes",
    Key.RESPONSE_END: "the last response bytes that came",
    Key.UNSOLICITED: "an alert (close_notify); none of the request is acknowledged",
    Key.ZERO_WINDOW: "the upstream's kernel can take no more: the application does not read",
    Key.ORIG_ZERO_WINDOW: "the proxy's kernel can take no more: the proxy does not read",
    Key.ORIG_ABORT: "the proxy asks the upstream to give this request up",
    Key.RESP_STDERR: "no byte of output: the application's error stream (FCGI_STDERR), or the end of its output",
    Key.CREDIT_USED: "all is sent that the upstream's flow control (HTTP/2) allows: the application does not read",
}


def build_evidence(loss: Loss, texts: Mapping[Key, str]) -> tuple[Evidence, ...]:
    """Return the frames of a proof in capture order.

    Parameters
    ----------
    loss : Loss
        The request with its key segments.
    texts : mapping of Key to str
        What a rule says of single segments; the others get the usual words.

    Returns
    -------
    tuple of Evidence
        With sequence numbers as Wireshark shows them: 0 is the SYN, 1 the first byte.
    """
    bases = _relative_bases(loss)
    evidence: list[Evidence] = []
    by_frame: dict[int, list[KeySegment]] = {}
    for segment in sorted(loss.keys.values(), key=lambda s: (s.ts_ns, s.frame, s.key)):
        by_frame.setdefault(segment.frame, []).append(segment)
    for segments in by_frame.values():
        # One frame may be several things, such as the end of a response and its FIN.
        segment = segments[0]
        base_seq, base_ack = bases[segment.dir], bases[1 - segment.dir]
        evidence.append(
            Evidence(
                frame=segment.frame,
                ts_ns=segment.ts_ns,
                dir=int(segment.dir),
                flags=segment.flags,
                seq=segment.seq,
                ack=segment.ack,
                rel_seq=relative_sequence(segment.seq, base_seq),
                rel_ack=relative_sequence(segment.ack, base_ack),
                payload_len=segment.payload_len,
                ttl=segment.ttl,
                label=", ".join(_LABELS[s.key] for s in segments),
                text="; ".join(texts.get(s.key) or _usual_text(loss, s) for s in segments),
            )
        )
    evidence += [_icmp_evidence(loss, error) for error in loss.icmp[:_MOST_ICMP]]
    return tuple(sorted(evidence, key=lambda e: (e.ts_ns, e.frame)))


def _icmp_evidence(loss: Loss, error: IcmpError) -> Evidence:
    """Return the frame of an ICMP error, which travels to the sender of what it quotes."""
    is_to_proxy = error.is_cut or format_endpoint(*error.src) == str(loss.connection.orig)
    if not loss.is_connect:
        quoted = "a segment of the request" if is_to_proxy else "a segment of the response"
    else:
        quoted = "the SYN" if is_to_proxy else "the answer to the SYN"
    if error.is_cut:
        quoted = "what most likely was the SYN (the capture cut its quotation)"
    mtu = f", MTU of the next hop {error.mtu:,} bytes" if error.mtu >= 0 else ""
    return Evidence(
        frame=error.frame,
        ts_ns=error.ts_ns,
        dir=int(Direction.RESP if is_to_proxy else Direction.ORIG),
        flags=0,
        seq=-1,
        ack=-1,
        rel_seq=-1,
        rel_ack=-1,
        payload_len=0,
        ttl=error.ttl,
        label=f"ICMP {error.words}",
        text=f"{format_address(*error.sender)} says of {quoted}: {error.words}{mtu}",
    )


def _usual_text(loss: Loss, segment: KeySegment) -> str:
    if segment.key in (Key.RESP_FIN, Key.RESP_RST):
        kind = "closes" if segment.key is Key.RESP_FIN else "resets"
        if loss.request_seq < 0:
            return f"the upstream {kind} the connection"
        if segment.ack < 0:
            return f"the upstream {kind} the connection and acknowledges nothing"
        if segment.acknowledges(loss.request_end_seq):
            whole = "all that was sent of the request" if _may_be_part(loss) else "the whole request"
            return f"the upstream {kind} the connection and acknowledges {whole}"
        if segment.acknowledges((loss.request_seq + 1) & 0xFFFFFFFF):
            return f"the upstream {kind} the connection with a part of the request acknowledged"
        return f"the upstream {kind} the connection and acknowledges none of the request"
    if segment.key in (Key.RESP_RESET_STREAM, Key.ORIG_RESET_STREAM, Key.GOAWAY):
        return stream_text(loss, segment.key)
    if segment.key is Key.RESP_END_REQUEST:
        return end_text(loss)
    if segment.key is Key.RETRANSMISSION and segment.flags & TcpFlag.SYN:
        return "the SYN is sent again"
    if segment.key is Key.RETRANSMISSION and not _is_whole_again(loss, segment):
        return "a part of the request is sent again"
    if segment.key is Key.REQUEST_END and _may_be_part(loss):
        return "the last byte of the request that was sent"
    if segment.key is Key.ACK and _may_be_part(loss):
        return "the upstream's kernel has what was sent so far"
    if segment.key is Key.UNSOLICITED and segment.acknowledges((loss.request_seq + 1) & 0xFFFFFFFF):
        return "an alert, and no response"
    is_final = loss.truncated or loss.flags & ExchangeFlag.LATE_ANSWER
    if segment.key is Key.RESPONSE and loss.flags & ExchangeFlag.INTERIM and not is_final:
        return "an interim response (1xx), which is no answer"
    if segment.key is Key.UNSOLICITED and not loss.is_reused:
        return "a TLS alert (encrypted: which one is not seen); none of the request is acknowledged"
    return _TEXTS[segment.key]


def _may_be_part(loss: Loss) -> bool:
    """Tell whether what was sent of a request may not have been all of it."""
    return bool(loss.flags & _NOT_WHOLE) or loss.is_end_unseen


def _is_whole_again(loss: Loss, segment: KeySegment) -> bool:
    """Tell whether a segment repeats all that was sent of a request, or an attempt to connect."""
    if loss.request_seq < 0:
        return True
    begins = sequence_difference(segment.seq, loss.request_seq) <= 0
    return begins and sequence_difference(segment.next_seq, loss.request_end_seq) >= 0


def _relative_bases(loss: Loss) -> tuple[int, int]:
    """Return the sequence number that counts as 0 in each direction; -1 if nothing of that direction is known."""
    connection = loss.connection
    bases = [connection.orig_isn, connection.resp_isn]
    for direction in (Direction.ORIG, Direction.RESP):
        if bases[direction] >= 0:
            continue
        known = [s.seq for s in loss.keys.values() if s.dir == direction]
        known += [s.ack for s in loss.keys.values() if s.dir != direction and s.ack >= 0]
        if known:
            # The earliest of numbers that lie within half the sequence space of each other.
            earliest = known[0]
            for seq in known[1:]:
                if sequence_difference(seq, earliest) < 0:
                    earliest = seq
            bases[direction] = (earliest - 1) & 0xFFFFFFFF
    return bases[0], bases[1]
