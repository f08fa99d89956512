"""JSON reports made by hand: as much of them as a comparison reads."""

MS, S = 10**6, 10**9


def upstream(endpoint="10.1.1.1:80", *, timeout_s=4.0, **changes):
    base = {
        "endpoint": endpoint,
        "connections": 14,
        "exchanges": 40,
        "unanswered": 0,
        "reused": 30,
        "rtt_ns": {"min": 159 * MS, "p50": 160 * MS, "p99": 162 * MS},
        "idle_timeout_ns": {"value": int(timeout_s * S) if timeout_s else -1},
        "near_misses": 0,
        "longest_answered_gap_ns": 3_700 * MS,
        "longest_gap_ns": 3_990 * MS,
        "idle_closes_by_upstream": 9,
        "idle_closes_by_proxy": 0,
        "proxy_idle_close_ns": -1,
        "opened": 14,
        "handshake_ns": 14 * 160 * MS,
    }
    return base | changes


def finding(code="PD101", failures=8, *, subject="10.1.1.1:80", severity="error", **changes):
    base = {
        "code": code,
        "name": f"name-of-{code.lower()}",
        "subject": subject,
        "severity": severity,
        "count": failures,
        "failures": failures,
        "occurrences": [{"request_ts_ns": n * 10 * S, "idle_before_ns": 11 * S + n * MS} for n in range(failures)],
    }
    return base | changes


def risk(subject="10.1.1.1:80"):
    return finding("PD110", 0, subject=subject, severity="info", count=0)


CODES = ("PD101", "PD102", "PD103", "PD104", "PD105", "PD106", "PD110", "PD201", "PD301", "PD601")


def report(*findings, upstreams=None, not_evaluated=("PD601",), codes=CODES, **changes):
    found = {f["code"] for f in findings}
    verdicts = [
        {
            "code": code,
            "verdict": "found" if code in found else "not_evaluated" if code in not_evaluated else "clean",
            "reason": "needs the error log" if code in not_evaluated else "",
        }
        for code in codes
    ]
    base = {
        "schema_version": 1,
        "captures": [{"paths": ["a.pcap"], "first_ts_ns": 0, "last_ts_ns": 100 * S}],
        "totals": {"frames": 500},
        "upstreams": [upstream()] if upstreams is None else upstreams,
        "findings": list(findings),
        "verdicts": verdicts,
    }
    return base | changes


def proxy_first(**changes):
    return upstream(
        timeout_s=None,
        longest_gap_ns=1_500 * MS,
        longest_answered_gap_ns=1_500 * MS,
        idle_closes_by_upstream=0,
        idle_closes_by_proxy=18,
        proxy_idle_close_ns=3 * S,
        **changes,
    )
