"""The public captures, what tshark and Zeek make of them, and what pcapdiag does.

A difference is written as ``-m +n``: m things that the other tool sees and pcapdiag does not, n the other way round.
Each one is either a listed decision in docs/corpus-decisions.md or a failure.

``python -m tests.corpus_truth [PART-OF-A-PATH]...`` prints every difference with its details.
"""

import csv
import ipaddress
import os
import re
import sys
import time
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

from pcapdiag.base.codes import ConnState, Method, Protocol
from pcapdiag.base.errors import PcapdiagError

ROOT = Path(__file__).resolve().parents[1]
CORPUS = Path(os.environ.get("PCAPDIAG_CORPUS") or ROOT.parent / "shared" / "corpus")
DECISIONS = ROOT / "docs" / "corpus-decisions.md"
BTEST = "zeek+zeek/testing/btest"

_ENDPOINTS = ("id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p")

_CHOOSES_PACKETS = (" -f ", "PacketFilter::", "netcontrol/packetfilter")
_NOT_OF_ITS_TRACE = ("empty.pcap",)
"""A test that reads several traces in turn: the baseline is that of the last."""

GOLDEN_URI_CHARACTERS = 300
"""golden-tshark keeps so much of a URI."""

csv.field_size_limit(1 << 24)


def _rows(path):
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


@cache
def golden():
    """Return {capture: (packets, streams, HTTP messages)} of tshark."""
    streams, messages = defaultdict(list), defaultdict(list)
    folder = CORPUS / "golden-tshark"
    for row in _rows(folder / "streams.tsv"):
        streams[row["capture"]].append(row)
    for row in _rows(folder / "http.tsv"):
        messages[row["capture"]].append(row)
    return {
        row["capture"]: (int(row["packets"]), streams[row["capture"]], messages[row["capture"]])
        for row in _rows(folder / "captures.tsv")
    }


@cache
def zeek_logs():
    """Return {capture: {log name: rows}} of the baselines that name their fields and were made of all packets."""
    logs = defaultdict(dict)
    for row in _rows(CORPUS / "GOLDEN-zeek.tsv"):
        if (
            any(option in row["test_exec_line"] + row["btest"] for option in _CHOOSES_PACKETS)
            or row["trace"] in _NOT_OF_ITS_TRACE
        ):
            continue
        for name in ("conn.log", "http.log"):
            path = CORPUS / "zeek+zeek" / row["baseline_dir"] / name
            if name not in row["baseline_files"].split(",") or not path.is_file():
                continue
            rows = _zeek_rows(path)
            if rows:
                logs[f"{BTEST}/Traces/{row['trace']}"][row["baseline_dir"].rsplit("/", 1)[1], name] = rows
    return logs


def _zeek_rows(path):
    """Return the rows of a log, or of a part of one whose first line names the fields; [] of anything else."""
    lines = path.read_text(errors="surrogateescape").splitlines()
    named = [line.split("\t")[1:] for line in lines if line.startswith("#fields")]
    data = [line.split("\t") for line in lines if not line.startswith("#")]
    if not named and data and "uid" in data[0]:
        named, data = data[:1], data[1:]
    return [dict(zip(named[0], row, strict=True)) for row in data] if named else []


class View:
    """What pcapdiag makes of one capture, in the form of the other tools."""

    def __init__(self, analysis, segments_of):
        self.frames = analysis.n_frames
        self.connections = []
        table = analysis.connections
        for i in range(len(table)):
            row = {name: table[name][i].item() for name in table.schema.names}
            row["orig"] = (_address(row["orig_hi"], row["orig_lo"]), row["orig_port"])
            row["resp"] = (_address(row["resp_hi"], row["resp_lo"]), row["resp_port"])
            # Unlike the connection's own counters this includes packets that were captured twice.
            row["segments"] = segments_of[i]
            self.connections.append(row)
        self.exchanges = []
        table = analysis.exchanges
        for i in range(len(table)):
            row = {name: table[name][i].item() for name in table.schema.names}
            row["target"] = analysis.texts.read(row["text_offset"], row["target_len"]).decode("latin-1")
            row["connection"] = self.connections[row["conn"]]
            self.exchanges.append(row)


def _address(hi, lo):
    number = hi << 64 | lo
    return str(ipaddress.ip_address(number & 0xFFFFFFFF) if number >> 32 == 0xFFFF else ipaddress.IPv6Address(number))


def analyse(path):
    """Return the View of a capture, or the refusal of a file that is none."""
    from pcapdiag.analysis.build import build_analysis
    from pcapdiag.engine.capture.series import group_captures

    segments_of = Counter()
    try:
        analysis = build_analysis(
            group_captures([str(path)]), segment_sink=lambda table: segments_of.update(table["conn"].tolist())
        )
        return View(analysis, segments_of)
    except PcapdiagError as error:
        return str(error)


def _pair(a, b):
    return tuple(sorted([a, b]))


def _is_http(row):
    return row["protocol"] in (Protocol.HTTP1, Protocol.UPGRADED)


def compare_tshark(capture, view):
    """Yield (aspect, Counter of what tshark has, Counter of what pcapdiag has)."""
    packets, streams, messages = golden()[capture]
    yield "frames", Counter({"frames": packets}), Counter({"frames": view.frames})
    ends = [
        ((_norm(r["client_ip"]), int(r["client_port"])), (_norm(r["server_ip"]), int(r["server_port"])))
        for r in streams
    ]
    yield (
        "connections",
        Counter(_pair(*e) for e in ends),
        Counter(_pair(c["orig"], c["resp"]) for c in view.connections),
    )
    segments, seen = Counter(), Counter()
    for row, end in zip(streams, ends, strict=True):
        segments[_pair(*end)] += int(row["pkts_c2s"]) + int(row["pkts_s2c"])
    for c in view.connections:
        seen[_pair(c["orig"], c["resp"])] += c["segments"]
    yield "segments", segments, seen
    yield (
        "originators",
        Counter(e for r, e in zip(streams, ends, strict=True) if r["syn_c"] != "0"),
        Counter((c["orig"], c["resp"]) for c in view.connections if c["syn_frames"]),
    )
    requests = Counter((_known(m["method_or_status"]), m["uri_or_request_in"]) for m in messages if m["kind"] == "REQ")
    got = [e for e in view.exchanges if _is_http(e) and e["method"] != Method.NONE]
    yield "requests", requests, Counter((_method_of(e), e["target"][:GOLDEN_URI_CHARACTERS]) for e in got)
    # Interim responses belong to the exchange of the final one; 101 is final.
    statuses = [m["method_or_status"] for m in messages if m["kind"] == "RSP"]
    yield (
        "responses",
        Counter(s for s in statuses if not s.startswith("1") or s == "101"),
        Counter(str(e["status_code"]) for e in view.exchanges if _is_http(e) and e["status_code"] > 0),
    )


def _known(method):
    """Return the method as pcapdiag can name it: those without a number of their own are OTHER."""
    return method if method == "-" or method in Method.__members__ else "OTHER"


def _method_of(exchange):
    return "-" if exchange["method"] == Method.NONE else Method(exchange["method"]).name


def compare_zeek(capture, view):
    """Yield (aspect, Counter of what Zeek has, Counter of what pcapdiag has).

    Several baselines of one trace were made with different scripts, some of which leave things out: the nearest counts.
    """
    candidates = defaultdict(list)
    for (_, name), rows in zeek_logs().get(capture, {}).items():
        if name == "conn.log":
            wanted = [r for r in rows if r.get("proto", "tcp") == "tcp"]
            got = [_as_conn_log(c) for c in view.connections]
            aspects = (("zeek-states", (*_ENDPOINTS, "conn_state")), ("zeek-history", ("history",)))
        else:
            wanted = [{**r, "method": _known(r["method"])} for r in rows]
            for r in wanted:
                # Zeek writes 0 where a response without a status line came.
                r["status_code"] = "-" if r.get("status_code") == "0" else r.get("status_code")
            got = [_as_http_log(e) for e in view.exchanges if _is_http(e)]
            aspects = (("zeek-http", ("method", "uri", "status_code", "trans_depth")),)
        for aspect, names in aspects:
            present = [n for n in names if n in rows[0]]
            if names[-1] in present:
                counted = [Counter(_picked(r, present) for r in table) for table in (wanted, got)]
                candidates[aspect].append(counted)
    for aspect, pairs in candidates.items():
        yield aspect, *min(pairs, key=lambda pair: (pair[0] - pair[1]).total() + (pair[1] - pair[0]).total())


def _picked(row, names):
    return tuple(_norm(row[n]) if n in ("id.orig_h", "id.resp_h") else row[n] for n in names)


def _as_conn_log(connection):
    return {
        "id.orig_h": connection["orig"][0],
        "id.orig_p": str(connection["orig"][1]),
        "id.resp_h": connection["resp"][0],
        "id.resp_p": str(connection["resp"][1]),
        "conn_state": ConnState(connection["conn_state"]).name,
        "history": connection["history"].decode(),
    }


def _as_http_log(exchange):
    return {
        "method": _method_of(exchange),
        "uri": exchange["target"] or "-",
        "status_code": str(exchange["status_code"]) if exchange["status_code"] > 0 else "-",
        "trans_depth": str(exchange["depth"] + 1),
    }


def _norm(text):
    return str(ipaddress.ip_address(text.split(",")[-1].split("%")[0]))


def compare(capture, view):
    """Return {aspect: (difference as written in the decisions, details)} where pcapdiag sees something else."""
    found = {}
    for aspect, wanted, got in (*compare_tshark(capture, view), *compare_zeek(capture, view)):
        missing, extra = wanted - got, got - wanted
        if missing or extra:
            found[aspect] = (f"-{missing.total()} +{extra.total()}", (missing, extra))
    return found


def decisions():
    """Return {(capture, aspect): difference} of the tables in docs/corpus-decisions.md."""
    rows = re.findall(r"^\| `([^`]+)` \| ([a-z-]+) \| (-\d+ \+\d+) \|$", DECISIONS.read_text(), re.MULTILINE)
    return {(capture, aspect): difference for capture, aspect, difference in rows}


def main(arguments):
    """Print all differences that are not listed (or all, with --all), and how long the slowest captures took."""
    listed = decisions() if DECISIONS.is_file() and "--all" not in arguments else {}
    chosen = [a for a in arguments if not a.startswith("-")]
    times, n_difference = [], 0
    for capture in golden():
        if chosen and not any(part in capture for part in chosen):
            continue
        start = time.perf_counter()
        try:
            view = analyse(CORPUS / capture)
        except Exception as error:  # noqa: BLE001 - a tool to look for them
            print(f"RAISES {capture}: {type(error).__name__}: {error}")
            continue
        times.append((time.perf_counter() - start, capture))
        if isinstance(view, str):
            print(f"REFUSED {capture} ({golden()[capture][0]} packets): {view}")
            continue
        for aspect, (difference, (missing, extra)) in compare(capture, view).items():
            if listed.get((capture, aspect)) == difference:
                continue
            n_difference += 1
            print(f"{capture} | {aspect} | {difference}")
            for sign, things in (("-", missing), ("+", extra)):
                for thing, n in list(things.items())[:6]:
                    print(f"      {sign}{n} {thing}")
    print(f"{len(times)} captures in {sum(t for t, _ in times):.1f} s, {n_difference} differences")
    for seconds, capture in sorted(times, reverse=True)[:3]:
        print(f"  {seconds:.2f} s {capture}")


if __name__ == "__main__":
    main(sys.argv[1:])
