"""tshark's view of a capture, with its settings moved to where it decodes what pcapdiag decodes."""

import os
import shutil
import subprocess
from collections import Counter, defaultdict
from typing import NamedTuple

from pcapdiag.base.codes import Method
from tests.waiting import HANG_S
from tests.world.views import Connection, Message, View, is_final, ports_of

FIELDS = (
    *("frame.number", "frame.protocols", "tcp.stream", "tcp.srcport", "tcp.dstport", "tcp.flags"),
    *("http.request.method", "http.response.code"),
)
OPTIONS = (
    # As pcapdiag does: what came out of order is put in its place before it is read.
    "tcp.reassemble_out_of_order:TRUE",
    # HTTP is known by its first line, whatever the port; else ports of other protocols come first.
    "tcp.try_heuristic_first:TRUE",
    # A content that cannot be unpacked makes no other messages.
    "http.decompress_body:FALSE",
)
HEADS = ("http.desegment_headers:FALSE", "http.desegment_body:FALSE", "http.dechunk_body:FALSE")
"""Messages are listed with their head, whatever becomes of their content; what follows may then be misread."""
BEHIND_HOLES = (*HEADS, "tcp.reassemble_out_of_order:FALSE")
"""What follows a segment that was never captured is read; else tshark waits for that segment to the end."""
_QUOTES = {"icmp", "icmpv6"}


class Seen(NamedTuple):
    """A View, and for every frame with TCP: `layers` of the frame, and (stream, ports, flags) of each TCP header."""

    view: View
    layers: dict
    headers: dict
    complaint: str


def is_here():
    """Tell whether tshark is installed."""
    return shutil.which("tshark") is not None


def view_capture(path, *options):
    """Return what tshark sees; `complaint` is what it said on stderr if it could not read to the end."""
    command = ["tshark", "-n", "-r", str(path), "-T", "fields", "-E", "occurrence=a", "-E", "separator=/t"]
    for option in (*OPTIONS, *options):
        command += ["-o", option]
    for field in FIELDS:
        command += ["-e", field]
    # Its own settings, not those of whoever runs it.
    env = {**os.environ, "HOME": "/nonexistent", "XDG_CONFIG_HOME": "/nonexistent"}
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=HANG_S, env=env)
    except subprocess.TimeoutExpired:
        return read_fields((), complaint=f"hangs for {HANG_S:.0f} s")
    lines = done.stdout.decode(errors="replace").splitlines()
    said = done.stderr.decode(errors="replace").strip().splitlines()
    return read_fields(lines, complaint=said[-1] if done.returncode and said else "")


def read_fields(lines, complaint=""):
    """Return Seen of the lines that tshark writes of `FIELDS`."""
    connections, messages = {}, Counter()
    frames_of, layers_of, headers_of = defaultdict(list), {}, {}
    n_frames = 0
    for line in lines:
        number, protocols, streams, sources, targets, flags, methods, codes = line.split("\t")
        n_frames += 1
        if not streams:
            continue
        frame, layers = int(number), protocols.split(":")
        headers = [
            (int(stream), ports_of(int(source), int(target)), int(bits, 16))
            for stream, source, target, bits in zip(
                # A header that is cut off has ports and no stream; it is the last, for nothing follows it.
                *(text.split(",") for text in (streams, sources, targets, flags)),
                strict=False,
            )
        ]
        layers_of[frame], headers_of[frame] = layers, headers
        # What an ICMP error quotes was sent before, and elsewhere.
        if _QUOTES & set(layers[: layers.index("tcp") if "tcp" in layers else None]):
            continue
        for stream, ports, _ in headers:
            connections.setdefault(stream, Connection(frame, ports))
        if "http" not in layers:
            continue
        values = [("request", m if m in Method.__members__ else Method.OTHER.name) for m in methods.split(",") if m]
        values += [("response", c) for c in codes.split(",") if c and is_final(c)]
        for what, value in values:
            message = Message(what, value, headers[-1][1])
            messages[message] += 1
            frames_of[message].append(frame)
    view = View(n_frames, Counter(connections.values()), messages, dict(frames_of))
    return Seen(view, layers_of, headers_of, complaint)
