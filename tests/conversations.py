"""Whole connections as segments, as a capture at the proxy holds them: what rules read that count connections."""

from pcapdiag.analysis.add_logs import add_logs
from pcapdiag.analysis.build import build_analysis
from pcapdiag.analysis.inputs import Inputs
from pcapdiag.engine.capture.series import group_captures
from pcapdiag.rules.diagnose import diagnose
from tests.scenario import ORIG, RESP, Segment, write_capture

MS = 10**6
SYN, ACK, PSH, FIN, RST = 0x02, 0x10, 0x08, 0x01, 0x04
REQUEST = b"GET /x HTTP/1.1\r\nHost: be\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LAST = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"


class Conversation:
    """One connection; times in milliseconds, those at which the proxy sends or receives."""

    def __init__(self, conn, at_ms, *, rtt_ms=160, is_opened=True):
        self.conn, self.rtt_ms = conn, rtt_ms
        self.segments = []
        self.next = {ORIG: 0, RESP: 0}
        if is_opened:
            self.send(at_ms, ORIG, SYN)
            self.send(at_ms + rtt_ms, RESP, SYN | ACK)
            self.send(at_ms + rtt_ms, ORIG, ACK)

    def send(self, at_ms, side, flags, payload=b"", *, seq=None, ack=None):
        """Add one segment; one that is sent again gives its `seq`."""
        seq = self.next[side] if seq is None else seq
        if ack is None:
            ack = self.next[1 - side] if flags & ACK else -1
        self.segments.append(Segment(round(at_ms * MS), self.conn, side, flags, seq, ack, payload))
        self.next[side] = max(self.next[side], seq + len(payload) + bool(flags & SYN) + bool(flags & FIN))

    def ask(self, at_ms, *, response=RESPONSE, again_ms=(), answered=True):
        """Send a request, and again after so many milliseconds; its answer comes a round trip after the last time."""
        seq = self.next[ORIG]
        self.send(at_ms, ORIG, PSH | ACK, REQUEST)
        for later in again_ms:
            self.send(at_ms + later, ORIG, PSH | ACK, REQUEST, seq=seq)
        end_ms = at_ms + max(again_ms, default=0) + self.rtt_ms
        if answered:
            self.send(end_ms, RESP, PSH | ACK, response)
            self.send(end_ms, ORIG, ACK)
        return end_ms

    def close(self, at_ms, side, *, ack=None):
        """Send the FIN of one side, and what the other makes of it."""
        self.send(at_ms, side, FIN | ACK, ack=ack)
        self.send(at_ms + (0.1 if side == RESP else self.rtt_ms), 1 - side, FIN | ACK)


def in_order(*conversations):
    """Return the segments of several connections as a capture has them."""
    return sorted((s for c in conversations for s in c.segments), key=lambda s: s.ts_ns)


def diagnosed(folder, conversations, **given):
    """Return the findings of a capture of some connections to an upstream, 10.9.0.1:80; `given` are other inputs."""
    path = folder / "proxy.pcap"
    path.write_bytes(write_capture(in_order(*conversations), container="pcap-ns"))
    inputs = Inputs(upstreams=("10.9.0.1:80",), **given)
    analysis = build_analysis(group_captures([str(path)]), inputs)
    return diagnose(add_logs(analysis, inputs) if inputs.kinds else analysis).findings
