"""What the lab's servers and tshark say happened, put beside what pcapdiag reports.

The truth of a scenario is written for `proxy.pcap`. Every other form of the same capture (other link types, other
containers, rotated, cut, taken at an upstream) holds the same packets under other frame numbers: a request is found
there by its endpoints and its raw sequence number, with a small decoder that shares no code with the package.

``python -m tests.lab_truth [SCENARIO[/FORM]]...`` prints one line per form: expected, got, and every difference;
``--all`` takes every form instead of `proxy.pcap`, ``--engine`` asks the tables without rules.
"""

import gzip
import json
import os
import struct
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

from pcapdiag.rules import RULES
from pcapdiag.rules._rule import CauseRule

LAB = Path(os.environ.get("PCAPDIAG_LAB") or Path(__file__).resolve().parents[2] / "shared" / "captures" / "lab")

CAUSES_NOT_OF_UNANSWERED = {rule.code for rule in RULES if not issubclass(rule, CauseRule)} | {"PD203"}
"""A risk is no lost request, a truncated or useless response one that came, a chain or a retry names other causes'."""

CODES = {
    "race_fin": "PD101",
    "acked_then_fin": "PD201",
    "acked_then_rst": "PD202",
    "open_at_capture_end": "PD104",
    "syn_rst": "PD301",
    "syn_unanswered": "PD302",
}
CODES_BY_SCENARIO = {
    ("c1_state_lost_rst", "rst_no_fin"): "PD106",
    ("c3_middlebox_rst", "rst_no_fin"): "PD105",
    ("k_loss_reorder", "rst_no_fin"): "PD101",
    ("b_lowrtt_race", "acked_then_rst"): "PD103",
    ("g_read_timeout", "proxy_gave_up_acked"): "PD204",
    ("i_client_abort_headers", "proxy_gave_up_acked"): "PD206",
}
"""Where the kind, which only says what the packets look like, has more than one cause."""

TURNS = {"l_tls_race", "n_fastcgi_phpfpm", "n_fastcgi_reload"}
"""Scenarios whose upstreams do not speak HTTP/1 in the clear."""

NOT_COMPARED = -2
SYN, SYN_ACK = 0x02, 0x12
METHODS = (b"GET ", b"POST ", b"PUT ", b"HEAD ", b"DELETE ", b"PATCH ", b"OPTIONS ")
MICROSECOND_NS = 1_000


class Segment(NamedTuple):
    """A TCP segment as the little decoder below sees it; `frame` is 1-based in `file`."""

    file: str
    frame: int
    ts_ns: int
    src: bytes
    sport: int
    dst: bytes
    dport: int
    seq: int
    flags: int
    payload_len: int
    start: bytes


def read_records(path):
    """Yield (time in ns, link type, captured bytes) of every whole record of a pcap or pcapng file."""
    data = (gzip.decompress if path.suffix == ".gz" else bytes)(path.read_bytes())
    if data[:4] == b"\x0a\x0d\x0d\x0a":
        yield from _read_pcapng(data)
        return
    order = "<" if data[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
    magic, _, _, _, _, _, link = struct.unpack(order + "IHHiIII", data[:24])
    unit = 1 if magic == 0xA1B23C4D else MICROSECOND_NS
    at = 24
    while at + 16 <= len(data):
        seconds, fraction, captured, _ = struct.unpack_from(order + "IIII", data, at)
        if at + 16 + captured > len(data):
            return
        yield seconds * 10**9 + fraction * unit, link, data[at + 16 : at + 16 + captured]
        at += 16 + captured


def _read_pcapng(data):
    at, order, interfaces = 0, "<", []
    while at + 12 <= len(data):
        if data[at : at + 4] == b"\x0a\x0d\x0d\x0a":
            order = "<" if data[at + 8 : at + 12] == b"\x4d\x3c\x2b\x1a" else ">"
            interfaces = []
        kind, length = struct.unpack_from(order + "II", data, at)
        if at + length > len(data):
            return
        if kind == 1:
            (link,) = struct.unpack_from(order + "H", data, at + 8)
            interfaces.append((link, _resolution(data[at + 16 : at + length - 4], order)))
        elif kind == 6:
            interface, high, low, captured = struct.unpack_from(order + "IIII", data, at + 8)
            link, per_second = interfaces[interface]
            ticks = high << 32 | low
            yield ticks * 10**9 // per_second, link, data[at + 28 : at + 28 + captured]
        at += length


def _resolution(options, order):
    at = 0
    while at + 4 <= len(options):
        code, length = struct.unpack_from(order + "HH", options, at)
        if code == 9:
            value = options[at + 4]
            return 2 ** (value & 0x7F) if value & 0x80 else 10**value
        at += 4 + (length + 3) // 4 * 4
    return 10**6


def _ip_start(link, data):
    if link == 1:
        kind, at = int.from_bytes(data[12:14], "big"), 14
    elif link == 113:
        kind, at = int.from_bytes(data[14:16], "big"), 16
    elif link == 276:
        kind, at = int.from_bytes(data[0:2], "big"), 20
    else:
        return -1
    while kind == 0x8100:
        kind, at = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
    return at if kind in (0x0800, 0x86DD) else -1


def read_segments(paths):
    """Return the TCP segments of the given files, in order."""
    segments = []
    for path in paths:
        for frame, (ts_ns, link, data) in enumerate(read_records(path), 1):
            at = _ip_start(link, data)
            if at < 0:
                continue
            if data[at] >> 4 == 4:
                tcp, end, proto = (
                    at + (data[at] & 15) * 4,
                    at + int.from_bytes(data[at + 2 : at + 4], "big"),
                    data[at + 9],
                )
                src, dst = data[at + 12 : at + 16], data[at + 16 : at + 20]
            else:
                tcp, end, proto = at + 40, at + 40 + int.from_bytes(data[at + 4 : at + 6], "big"), data[at + 6]
                src, dst = data[at + 8 : at + 24], data[at + 24 : at + 40]
            if proto != 6:
                continue
            sport, dport, seq, _, offset, flags = struct.unpack_from(">HHIIBB", data, tcp)
            payload = tcp + (offset >> 4) * 4
            segments.append(
                Segment(
                    str(path),
                    frame,
                    ts_ns,
                    src,
                    sport,
                    dst,
                    dport,
                    seq,
                    flags,
                    end - payload,
                    data[payload : payload + 8],
                )
            )
    return segments


class Expected(NamedTuple):
    """One unanswered request that the capture holds."""

    file: str
    frame: int
    code: str
    kind: str
    depth: int
    idle_before_ns: int


@dataclass
class Form:
    """One form of a scenario's capture: its files and what must be found in it."""

    scenario: str
    name: str
    paths: tuple
    connections: int = 0
    requests: int = 0
    expected: dict = field(default_factory=dict)

    @property
    def label(self):
        return f"{self.scenario}/{self.name}"


@cache
def truth_of(scenario):
    """Return the scenario's truth.json."""
    return json.loads((LAB / scenario / "truth.json").read_text())


def code_of(scenario, kind):
    """Return the code of the cause that made this kind of loss in this scenario."""
    return CODES_BY_SCENARIO.get((scenario, kind)) or CODES[kind]


@cache
def _proxy_segments(scenario):
    return tuple(read_segments([LAB / scenario / "proxy.pcap"]))


def _request_key(segment):
    return (segment.src, segment.sport, segment.dst, segment.dport, segment.seq, bool(segment.flags & 2))


@cache
def lost_requests(scenario):
    """Return {(endpoints, seq, is SYN): entry of truth.json} of the scenario's unanswered requests."""
    by_frame = {s.frame: s for s in _proxy_segments(scenario)}
    return {_request_key(by_frame[entry["req_frame"]]): entry for entry in truth_of(scenario)["unanswered"]}


@cache
def _upstream_legs(scenario):
    """Return the endpoints pairs of all connections that the proxy opened to upstreams."""
    return frozenset(frozenset({(s.src, s.sport), (s.dst, s.dport)}) for s in _proxy_segments(scenario))


@cache
def forms_of(scenario):
    """Return every form of the scenario's capture, `proxy.pcap` first; `fill_expected` says what each holds."""
    folder = LAB / scenario
    forms = [Form(scenario, "proxy.pcap", (folder / "proxy.pcap",))]
    single = [p for p in sorted(folder.rglob("*")) if p.name.endswith((".pcap", ".pcapng", ".pcap.gz"))]
    for path in single:
        # wire_drops.pcap holds what the lab's wire threw away: nobody saw those packets.
        if path.parent.name.startswith("rot") or path == folder / "proxy.pcap" or path.name == "wire_drops.pcap":
            continue
        forms.append(Form(scenario, str(path.relative_to(folder)), (path,)))
    # tcpdump -C numbers, -G and dumpcap stamp: the names sort by time.
    forms += [Form(scenario, series.name, tuple(sorted(series.iterdir()))) for series in sorted(folder.glob("rot*"))]
    return forms


@dataclass
class _Leg:
    """What the loop below knows of one connection so far."""

    isns: set = field(default_factory=set)
    ends: dict = field(default_factory=dict)
    segments: set = field(default_factory=set)
    last_payload_ns: int = -1
    requests: int = 0


def fill_expected(form):
    """Read the form's files and set what must be found in them: connections, requests, unanswered requests."""
    form.connections = form.requests = 0
    form.expected = {}
    is_turns = form.scenario in TURNS
    pairs, lost = _upstream_legs(form.scenario), lost_requests(form.scenario)
    legs = defaultdict(_Leg)
    for s in read_segments(form.paths):
        pair = frozenset({(s.src, s.sport), (s.dst, s.dport)})
        if pair not in pairs:
            continue
        leg, key = legs[pair], _request_key(s)
        is_new = (key, s.payload_len) not in leg.segments
        if s.flags & SYN_ACK == SYN and s.seq not in leg.isns:
            leg.isns.add(s.seq)
            leg.ends, leg.last_payload_ns, leg.requests = {}, -1, 0
        if is_new and key in lost and (s.payload_len > 0 or s.flags & SYN):
            entry = lost[key]
            # A turn is counted as the engine counts exchanges only where each is one HTTP request.
            depth = -1 if s.flags & SYN else NOT_COMPARED if is_turns else leg.requests
            idle_ns = s.ts_ns - leg.last_payload_ns if leg.last_payload_ns >= 0 else -1
            form.expected[Path(s.file).name, s.frame] = Expected(
                s.file, s.frame, code_of(form.scenario, entry["kind"]), entry["kind"], depth, idle_ns
            )
        # A TLS alert is no answer: with close_notify on its way the connection was idle all the same.
        is_alert = form.scenario == "l_tls_race" and s.start[:1] == b"\x15"
        if is_new and s.payload_len > 0 and not is_alert:
            # The last byte is the last of the stream: what arrives late in front of it ends no gap.
            if (s.seq + s.payload_len - leg.ends.get(s.src, s.seq)) % 2**32 < 2**31:
                leg.ends[s.src] = (s.seq + s.payload_len) % 2**32
                leg.last_payload_ns = s.ts_ns
            is_request = s.start.startswith(METHODS)
            leg.requests += is_request
            form.requests += is_request
        leg.segments.add((key, s.payload_len))
    form.connections = sum(max(len(leg.isns), 1) for leg in legs.values())
    if is_turns and form.name == "proxy.pcap":
        form.requests = requests_by_log(form.scenario)


def requests_by_log(scenario):
    """Return how many requests the proxy sent to upstreams that it reached, by its access log.

    For TLS and FastCGI, where a request cannot be told by its first bytes.
    """
    n_request = 0
    for line in (LAB / scenario / "proxy" / "access.log").read_text().splitlines():
        quoted = line.split('"')
        peers, connect_times = quoted[1].split(", "), quoted[7].split(", ")
        n_request += sum(p[0].isdigit() and t != "-" for p, t in zip(peers, connect_times, strict=True))
    return n_request


def scenarios():
    """Return the names of all scenarios."""
    return sorted(p.parent.name for p in LAB.glob("*/truth.json"))


class Got(NamedTuple):
    """One unanswered request as reported."""

    code: str
    depth: int
    idle_before_ns: int
    orig: str
    resp: str


def run_report(paths, *options):
    """Return the JSON report that the command line prints for these captures."""
    from click.testing import CliRunner

    from pcapdiag.cli import main

    arguments = ["analyze", *map(str, paths), "--format", "json", "--fail-on", "never", *options]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    if result.exit_code != 0:
        message = f"exit code {result.exit_code}: {result.stderr}"
        raise RuntimeError(message)
    return json.loads(result.stdout)


def lost_in_report(report, paths):
    """Return {(file name, frame): Got} of every occurrence that stands for an unanswered request, and repeated keys."""
    got, repeated = {}, []
    for finding in report["findings"]:
        if finding["code"] in CAUSES_NOT_OF_UNANSWERED:
            continue
        for o in finding["occurrences"]:
            key = (Path(o.get("capture") or paths[0]).name, o["request_frame"])
            if key in got:
                repeated.append(key)
            got[key] = Got(finding["code"], o["depth"], o["idle_before_ns"], o["orig"], o["resp"])
    return got, repeated


def lost_in_analysis(paths):
    """Return the same from the engine's tables alone, without rules: every code is ``-``; and the analysis."""
    from pcapdiag.analysis.build import build_analysis
    from pcapdiag.engine.capture.series import group_captures

    analysis = build_analysis(group_captures([str(p) for p in paths]))
    starts = [(f.first_frame, Path(f.path).name) for c in analysis.captures for f in c.files]
    got = {}
    for loss in analysis.losses:
        first, name = max(start for start in starts if start[0] <= loss.request_frame)
        key = (name, loss.request_frame - first + 1)
        got[key] = Got("-", loss.depth, loss.idle_before_ns, str(loss.connection.orig), str(loss.connection.resp))
    return got, analysis


def differences(form, got, *, with_codes=True):
    """Return one line per unanswered request that is missing, false, or described otherwise than the truth does."""
    lines = []
    for key in sorted(form.expected.keys() | got.keys()):
        want, have = form.expected.get(key), got.get(key)
        where = f"{key[0]} frame {key[1]}"
        if have is None:
            lines.append(f"{where}: missing, {want.code} ({want.kind}, depth {want.depth})")
        elif want is None:
            lines.append(f"{where}: false, {have.code} (depth {have.depth}, {have.orig} -> {have.resp})")
        else:
            if with_codes and want.code != have.code:
                lines.append(f"{where}: {have.code} instead of {want.code} ({want.kind})")
            if want.depth not in (NOT_COMPARED, have.depth):
                lines.append(f"{where}: depth {have.depth} instead of {want.depth}")
            if want.idle_before_ns != have.idle_before_ns:
                lines.append(f"{where}: idle {have.idle_before_ns} ns instead of {want.idle_before_ns} ns")
    return lines


def _tell(counter):
    return " ".join(f"{code}:{n}" for code, n in sorted(counter.items())) or "none"


def compare(form, *, engine=False):
    """Return (differences, connections, exchanges, unanswered requests as got) for one form; fills `form`."""
    fill_expected(form)
    if engine:
        got, analysis = lost_in_analysis(form.paths)
        lines = differences(form, got, with_codes=False)
        counts = [(u.connections, u.exchanges) for u in analysis.upstreams]
    else:
        report = run_report(form.paths)
        got, repeated = lost_in_report(report, form.paths)
        lines = [f"{name} frame {frame}: in more than one occurrence" for name, frame in repeated]
        lines += differences(form, got)
        counts = [(u["connections"], u["exchanges"]) for u in report["upstreams"]]
    connections, exchanges = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0)
    if connections != form.connections:
        lines.append(f"{connections} connections instead of {form.connections}")
    if form.requests and exchanges != form.requests:
        lines.append(f"{exchanges} exchanges instead of {form.requests}")
    return lines, connections, exchanges, got


def main(arguments):
    """Print the comparison; the exit code is the number of forms that differ, at most 100."""
    engine = "--engine" in arguments
    chosen = [a for a in arguments if not a.startswith("-")]
    names = sorted({a.split("/")[0] for a in chosen}) or scenarios()
    n_bad = n_expected = n_found = 0
    for scenario in names:
        for form in forms_of(scenario):
            if chosen and not {form.label, form.scenario} & set(chosen):
                continue
            if not chosen and "--all" not in arguments and form.name != "proxy.pcap":
                continue
            lines, connections, exchanges, got = compare(form, engine=engine)
            n_bad += bool(lines)
            n_expected += len(form.expected)
            n_found += len(form.expected.keys() & got.keys())
            print(
                f"{'BAD' if lines else 'ok ':3} {form.label:55} conns {connections}/{form.connections} "
                f"exch {exchanges}/{form.requests} want {_tell(Counter(e.code for e in form.expected.values()))} "
                f"got {_tell(Counter(g.code for g in got.values()))}"
            )
            for line in lines:
                print(f"      {line}")
    print(f"{n_found} of {n_expected} unanswered requests found; {n_bad} forms differ")
    return min(n_bad, 100)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
