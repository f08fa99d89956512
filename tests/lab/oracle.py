"""What happened in a recording, by tshark, the servers' own logs and the client: nothing here asks pcapdiag."""

import json
import re
import subprocess
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from tests.waiting import HANG_S

_ACCESS = re.compile(
    r'(?P<msec>[\d.]+) (?P<conn>\d+) \d+ "(?P<addr>[^"]*)" "(?P<status>[^"]*)" "[^"]*" "[^"]*" "[^"]*" '
    r"(?P<id>\S+) (?P<final>\d+) "
)
_ERROR = re.compile(r"\S+ \S+ \[(?P<level>\w+)\] \d+#\d+: (?:\*(?P<conn>\d+) )?(?P<message>.*)")


class Try(NamedTuple):
    """One attempt at a peer, by the access log."""

    peer: str
    status: str

    @property
    def is_lost(self):
        """Whether a peer was asked and gave no answer; a block's name in place of a peer is no attempt."""
        return ":" in self.peer and self.status in {"502", "504"}


class AccessLine(NamedTuple):
    """One request of a client, by the access log."""

    at_s: float
    log_conn: int
    request_id: str
    status: int
    tries: list[Try]

    @property
    def is_failure(self):
        """Whether the client got an error of the proxy."""
        return self.status >= 500

    @property
    def is_saved(self):
        """Whether a retry hid a lost try from the client."""
        return not self.is_failure and any(try_.is_lost for try_ in self.tries)


def read_access_log(path):
    """Return the lines of the proxy's access log."""
    lines = []
    for text in path.read_text().splitlines():
        match = _ACCESS.match(text)
        assert match, text
        tries = [Try(*pair) for pair in zip(match["addr"].split(", "), match["status"].split(", "), strict=True)]
        lines.append(AccessLine(float(match["msec"]), int(match["conn"]), match["id"], int(match["final"]), tries))
    return lines


class ErrorLine(NamedTuple):
    """One entry of the proxy's error log about a request."""

    number: int
    log_conn: int
    message: str

    @property
    def has_no_peer(self):
        """Whether nothing was sent for it."""
        return self.message.startswith("no live upstreams")


def read_error_log(path):
    """Return the entries that concern a request."""
    matches = [(n, _ERROR.match(text)) for n, text in enumerate(path.read_text().splitlines(), 1)]
    return [ErrorLine(n, int(m["conn"]), m["message"]) for n, m in matches if m and m["conn"]]


class Frame(NamedTuple):
    """A TCP frame as tshark reads it; numbers relative to the initial ones."""

    number: int
    time_s: float
    stream: int
    src: str
    srcport: int
    seq: int
    ack: int
    flags: int
    length: int
    payload: bytes


FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10
TLS_ALERT, TLS_DATA = b"\x15", b"\x17"
_FIELDS = (
    *("frame.number", "frame.time_epoch", "tcp.stream", "ip.src", "tcp.srcport", "tcp.seq", "tcp.ack", "tcp.flags"),
    *("tcp.len", "tcp.payload"),
)


def read_frames(capture):
    """Return all TCP frames of a capture, by tshark."""
    command = ["tshark", "-n", "-r", str(capture), "-Y", "tcp", "-T", "fields", "-E", "occurrence=f"]
    command += [word for name in _FIELDS for word in ("-e", name)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=HANG_S)
    frames = []
    for line in done.stdout.splitlines():
        number, time_s, stream, src, port, seq, ack, flags, length, payload = line.split("\t")
        frames.append(
            Frame(
                *(int(number), float(time_s), int(stream), src, int(port), int(seq), int(ack or 0), int(flags, 16)),
                *(int(length), bytes.fromhex(payload)),
            )
        )
    return frames


class Lost(NamedTuple):
    """A request, or an attempt to connect, that got no answer."""

    kind: str
    """What its packets look like: ``race_fin``, ``acked_then_fin``, ..., as in the lab's truth files."""
    frame: int
    closing_frame: int
    """FIN or RST of the upstream that ended it, 0 where there is none."""
    request_id: str


@dataclass
class Wire:
    """A capture at the proxy, and how its requests are told: by an id in their bytes."""

    capture: Path
    pattern: bytes

    @cached_property
    def frames(self):
        """All TCP frames."""
        return read_frames(self.capture)

    @cached_property
    def streams(self):
        """Frames by connection."""
        streams = defaultdict(list)
        for frame in self.frames:
            streams[frame.stream].append(frame)
        return streams

    @cached_property
    def requests(self):
        """Return [(request id, frame)] of every request on the wire, the first frame on each connection."""
        found = {}
        for frame in self.frames:
            match = re.search(self.pattern, frame.payload)
            if match and frame.src == self.streams[frame.stream][0].src:
                found.setdefault((match[0].decode(), frame.stream), frame)
        return [(request_id, frame) for (request_id, _), frame in found.items()]

    @property
    def idle_closings_s(self):
        """How long the connections had been silent that the other side closed first, whatever was on its way to it."""
        gaps = []
        for frames in self.streams.values():
            fin = next((f for f in frames if f.flags & FIN), None)
            if fin is not None and fin.src != frames[0].src:
                bytes_before = [f for f in frames if f.length and f.number < fin.number]
                known = [f for f in bytes_before if f.src == fin.src or fin.ack >= f.seq + f.length]
                gaps.append(fin.time_s - known[-1].time_s)
        return gaps

    @cached_property
    def lost(self):
        """Every request on the wire, and every attempt to connect, without an answer, by frame."""
        lost = [self._judge_request(*request) for request in self.requests]
        lost += [self._judge_connection(frames) for frames in self.streams.values()]
        return sorted((entry for entry in lost if entry is not None), key=lambda entry: entry.frame)

    @staticmethod
    def _judge_connection(frames):
        first = frames[0]
        theirs = [f for f in frames if f.src != first.src]
        if first.flags & SYN and not any(f.flags & SYN for f in theirs):
            resets = [f.number for f in theirs if f.flags & RST]
            kind = "syn_rst" if resets else "syn_unanswered"
            return Lost(kind, first.number, min(resets, default=0), "")
        alerts = [f.number for f in theirs if f.payload[:1] == TLS_ALERT]
        if alerts and not any(f.payload[:1] == TLS_DATA for f in frames):
            # Whoever is first: to the alert the proxy answers by closing, too.
            closings = [f.number for f in frames if f.flags & (FIN | RST) and f.number >= alerts[0]]
            return Lost("tls_failed", first.number, min(closings, default=0), "")
        return None

    def _judge_request(self, request_id, request):
        frames = self.streams[request.stream]
        own = [f.number for _, f in self.requests if f.stream == request.stream and f.number > request.number]
        theirs = [f for f in frames if f.src != request.src and f.number < min(own, default=f.number + 1)]
        before = [f for f in theirs if f.number < request.number]
        after = [f for f in theirs if f.number > request.number]
        # Bytes that come late are no answer; an answer is new bytes.
        next_byte = max((f.seq + f.length for f in before), default=1)
        if any(f.length and f.seq >= next_byte for f in after):
            return None
        end = request.seq + request.length
        fins = [f for f in theirs if f.flags & FIN]
        resets = [f for f in after if f.flags & RST]
        closing = fins[0] if fins else resets[0] if resets else None
        # What a kernel acknowledges behind a FIN, nobody reads any more.
        until = closing.number if closing else frames[-1].number
        is_acked = any(f.flags & ACK and not f.flags & RST and f.ack >= end for f in after if f.number <= until)
        if fins:
            kind = "acked_then_fin" if is_acked else "race_fin"
        elif resets:
            kind = "acked_then_rst" if is_acked else "rst_no_fin"
        else:
            kind = "proxy_gave_up_acked" if is_acked else "never_acked"
        return Lost(kind, request.number, closing.number if closing else 0, request_id)


@dataclass
class Recording:
    """A scenario's folder."""

    folder: Path

    @cached_property
    def meta(self):
        """What the recorder noted."""
        return json.loads((self.folder / "meta.json").read_text())

    @cached_property
    def wire(self):
        """The capture at the proxy."""
        return Wire(self.folder / "proxy.pcap", rb"%s-\d{3}" % self.meta["name"].encode())

    @cached_property
    def client(self):
        """What the client got, by request id."""
        lines = (self.folder / "client.jsonl").read_text().splitlines()
        return {answer["request_id"]: answer for answer in map(json.loads, lines)}

    @property
    def failures(self):
        """The ids of requests for which the client got an error of the proxy."""
        return [request_id for request_id, answer in self.client.items() if answer["status"] >= 500]

    @cached_property
    def access(self):
        """The access log, by request id."""
        return {line.request_id: line for line in read_access_log(self.folder / "access.log")}

    @property
    def lost_tries(self):
        """The ids of requests that the proxy lost at a peer, once per try."""
        return [line.request_id for line in self.access.values() for try_ in line.tries if try_.is_lost]

    @cached_property
    def errors(self):
        """The entries of the error log, each with the id of its request."""
        by_conn = {line.log_conn: line.request_id for line in self.access.values()}
        return [(line, by_conn[line.log_conn]) for line in read_error_log(self.folder / "error.log")]

    @cached_property
    def served(self):
        """The ids that the upstreams say they took up."""
        logs = self.folder.glob("upstream_*/requests.log")
        return {line for log in logs for line in log.read_text().splitlines()}
