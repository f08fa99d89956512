"""Hand-built analyses and findings: what reports are made of, without an engine."""

import dataclasses
from types import SimpleNamespace

import numpy as np

from pcapdiag.analysis.model import Analysis, Endpoint, IdleTimeout, Upstream
from pcapdiag.base.codes import CapturePoint, Direction, Leg, Method, Outcome, Protocol, TcpFlag
from pcapdiag.base.columns import CONNECTIONS, EXCHANGES, KEY_SEGMENTS
from pcapdiag.base.findings import (
    Confidence,
    Evidence,
    Finding,
    Note,
    Occurrence,
    RuleFacts,
    Severity,
    Verdict,
    VerdictKind,
)
from pcapdiag.base.tables import ByteStore, Table
from pcapdiag.engine.capture.batch import Capture, CaptureFile
from pcapdiag.proxy.join.join import join_logs
from pcapdiag.report.build import build_report
from pcapdiag.rules import RULES
from tests.proxy.join.builders import SPAN

T0 = 1_795_218_956_886_114_000
S = 1_000_000_000
MS = 1_000_000

ORIG = "10.1.1.100:45986"
RESP = "10.1.1.2:80"

HOSTILE = (
    "/\x1b[2J\x1b]0;owned\x07\x1b[31m<script>alert(1)</script>|`x`|[a](javascript:alert(1))"
    "\u202egpj.exe\u2066\u200b@here #1 www.evil.example http://evil.example [red]rich[/red]"
    "\r\nnext\x00\x7f\x9b31m\udcff"
)


def evidence(frame, ms, direction, flags, rel_seq, rel_ack, payload_len, text):
    return Evidence(
        frame=frame,
        ts_ns=T0 + ms * MS,
        dir=direction,
        flags=flags,
        seq=1000 + rel_seq,
        ack=2000 + rel_ack if rel_ack >= 0 else -1,
        rel_seq=rel_seq,
        rel_ack=rel_ack,
        payload_len=payload_len,
        ttl=64,
        label="",
        text=text,
    )


def race_evidence():
    push, fin = TcpFlag.PSH | TcpFlag.ACK, TcpFlag.FIN | TcpFlag.ACK
    return (
        evidence(97, -3877, Direction.RESP, push, 640, 716, 212, "the last response; from here on nothing is said"),
        evidence(105, 0, Direction.ORIG, push, 716, 852, 179, "the request, sent on the open connection"),
        evidence(
            108,
            127,
            Direction.RESP,
            fin,
            852,
            716,
            0,
            "the upstream closes; its ack 716 says it had not got the request",
        ),
        evidence(115, 160, Direction.RESP, TcpFlag.RST, 852, -1, 0, "the upstream resets: no one reads there any more"),
    )


def occurrence(**changes):
    base = Occurrence(
        conn=0,
        depth=4,
        uid="1:abc=/1795218950",
        orig=ORIG,
        resp=RESP,
        request_frame=105,
        request_ts_ns=T0,
        idle_before_ns=3_877_202_000,
        method="GET",
        target="/api?token=secret&page=2",
        closing_frame=108,
        closing_kind="FIN",
        evidence=race_evidence(),
        host="api.example",
        request_id="20b21b9a",
    )
    return dataclasses.replace(base, **changes)


def finding(**changes):
    occurrences = changes.pop("occurrences", None)
    if occurrences is None:
        occurrences = (
            occurrence(),
            *(
                occurrence(request_frame=200 + n, request_ts_ns=T0 + n * S, closing_frame=203 + n, evidence=())
                for n in range(1, 13)
            ),
        )
    base = Finding(
        code="PD101",
        name="idle-close-race",
        title="The upstream closed the idle connection while the proxy was sending a request on it",
        severity=Severity.ERROR,
        confidence=Confidence.CONFIRMED,
        subject=RESP,
        message=f"{RESP} closes idle connections after 4.004 s; {len(occurrences)} requests were on their way then.",
        identifier=f"PD101 {RESP} 4s",
        count=len(occurrences),
        first_ts_ns=occurrences[0].request_ts_ns if occurrences else -1,
        last_ts_ns=occurrences[-1].request_ts_ns if occurrences else -1,
        refuted_by="A FIN whose ACK number covers the request, or a request that acknowledges the FIN.",
        remedy="Let the proxy close first:\n\n    upstream be {\n        keepalive_timeout 3s;\n    }\n\n"
        "Predicted effect: no request on a connection older than 3 s, so none of these losses.",
        occurrences=occurrences,
        details={"idle_timeout_ns": 4_004_000_000},
    )
    made = dataclasses.replace(base, **changes)
    facts = next((rule.facts for rule in RULES if rule.code == made.code), RuleFacts())
    return made if "facts" in changes else dataclasses.replace(made, facts=facts)


def upstream(**changes):
    base = Upstream(
        endpoint=Endpoint("10.1.1.2", 80),
        connections=8,
        exchanges=36,
        unanswered=13,
        rtt_min_ns=160_010_000,
        rtt_p50_ns=160_200_000,
        rtt_p99_ns=161_900_000,
        server_field="nginx/1.22.1",
        keep_alive_s=-1,
        idle_timeout=IdleTimeout(4_004_000_000, 3_000_000, 9, Confidence.CONFIRMED, ()),
        requests_per_connection_limit=-1,
        race_window_ns=(3_843_800_000, 4_004_000_000),
        near_misses=2,
        reused=28,
        longest_answered_gap_ns=3_842_000_000,
        proxy_idle_close_ns=-1,
        idle_closes_by_upstream=9,
        idle_closes_by_proxy=0,
    )
    return dataclasses.replace(base, **changes)


def texts_of(*parts):
    store = ByteStore()
    store.append(np.frombuffer(b"".join(parts), dtype=np.uint8))
    return store


def connection_rows(n_conn=1):
    rows = CONNECTIONS.empty(n_conn)
    for name in ("closing_frame", "closing_ts_ns", "idle_at_close_ns", "server_offset", "first_closer"):
        rows[name] = -1
    rows["orig_lo"] = 0xFFFF_0A01_0164
    rows["resp_lo"] = 0xFFFF_0A01_0102
    rows["orig_port"] = 45986
    rows["resp_port"] = 80
    rows["first_ts_ns"] = rows["last_ts_ns"] = T0
    rows["conn"] = np.arange(n_conn)
    rows["protocol"] = Protocol.HTTP1
    rows["history"] = b"ShADad"
    return rows


def exchange_rows(n_exch=1):
    rows = EXCHANGES.empty(n_exch)
    rows["request_frame"] = 105 + np.arange(n_exch)
    rows["request_ts_ns"] = T0 + np.arange(n_exch) * S
    rows["response_frame"] = rows["first_byte_ns"] = rows["duration_ns"] = rows["response_seq"] = -1
    rows["idle_before_ns"] = 3_877_202_000
    rows["depth"] = np.arange(n_exch)
    rows["status_code"] = -1
    rows["text_offset"] = -1
    rows["method"] = Method.GET
    rows["outcome"] = Outcome.UNANSWERED
    rows["protocol"] = Protocol.HTTP1
    return rows


def capture_file(**changes):
    base = CaptureFile(
        path="proxy.pcap",
        format="pcap",
        n_frames=628,
        n_bytes=79_117,
        size=79_117,
        sha256="ab" * 32,
        link_types=[1],
        first_ts_ns=T0 - 10 * S,
        last_ts_ns=T0 + 90 * S,
    )
    return dataclasses.replace(base, **changes)


def loss(*, is_connect):
    """Return as much of a Loss as a report reads."""
    return SimpleNamespace(
        is_connect=is_connect,
        connection=SimpleNamespace(conn=0, resp=None),
        depth=-1 if is_connect else 4,
        request_ts_ns=0,
        retransmissions=0,
        icmp=(),
        keys={},
        stands_for=1,
        is_head_whole=True,
        status_code=200,
    )


def analysis(**changes):
    n_loss, n_connect = changes.pop("n_unanswered", 13), changes.pop("n_connect", 0)
    base = Analysis(
        captures=(Capture([capture_file()], []),),
        connections=Table(CONNECTIONS, connection_rows()),
        exchanges=Table(EXCHANGES, exchange_rows(99)),
        key_segments=Table(KEY_SEGMENTS, KEY_SEGMENTS.empty()),
        texts=ByteStore(),
        legs=np.array([Leg.UPSTREAM], dtype=np.int8),
        losses=tuple(loss(is_connect=n < n_connect) for n in range(n_loss)),
        truncated=(),
        upstreams=(upstream(),),
        capture_points=(CapturePoint.PROXY,),
        n_frames=628,
        n_undecoded=2,
        n_bytes=79_117,
        first_ts_ns=T0 - 10 * S,
        last_ts_ns=T0 + 90 * S,
        n_retransmissions=5,
    )
    return dataclasses.replace(base, **changes)


def with_log(wires, entries, accesses=()):
    """Return an analysis of tries and of the lines of logs that are joined with them."""
    return analysis(log=join_logs(wires, SPAN, entries, accesses))


VERDICTS = (
    Verdict("PD101", VerdictKind.FOUND),
    Verdict("PD102", VerdictKind.CLEAN),
    Verdict("PD201", VerdictKind.CLEAN),
    Verdict("PD601", VerdictKind.NOT_EVALUATED, "needs the error log"),
)


def report(*findings, verdicts=VERDICTS, redact=True, **changes):
    return build_report(analysis(**changes), findings, verdicts, version="0.0", redact=redact)


def race_report():
    return report(finding())


def hostile_report():
    """Return a report in which every text that a capture or a path can choose is hostile."""
    file = capture_file(path=HOSTILE)
    bad = occurrence(target=HOSTILE, method=HOSTILE, host=HOSTILE, request_id=HOSTILE, uid=HOSTILE)
    others = tuple(dataclasses.replace(bad, request_frame=300 + n, evidence=()) for n in range(2))
    found = finding(
        occurrences=(bad, *others),
        message=HOSTILE,
        title=HOSTILE,
        subject=HOSTILE,
        refuted_by=HOSTILE,
        remedy=f"{HOSTILE}\n\n    {HOSTILE}",
    )
    return report(
        found,
        redact=False,
        verdicts=(Verdict("PD601", VerdictKind.NOT_EVALUATED, HOSTILE),),
        captures=(Capture([file], [Note("odd", HOSTILE, 3, 24, HOSTILE)]),),
        upstreams=(upstream(server_field=HOSTILE),),
        notes=(Note("odd", HOSTILE),),
    )
