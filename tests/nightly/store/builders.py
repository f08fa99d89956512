"""What a scan found in one capture of one day, built by hand."""

from pcapdiag.base.findings import Confidence, Severity
from pcapdiag.nightly.store.model import CaptureResult, FileRecord, FileStamp, FileStatus, Sighting, UpstreamDay

DAY_NS = 86_400 * 10**9
UPSTREAM = "10.0.0.1:80"


def result(
    key, *, day=20, count=1, exchanges=100, subject=UPSTREAM, gaps_near=-1, lost_near=-1, watched_ppm=-1, **changes
):
    """Return what a capture of one day found."""
    date, ts_ns = f"2026-11-{day:02d}", (20_777 + day - 20) * DAY_NS + 1
    stamp = FileStamp(10, 20, "30")
    seen = Sighting(
        *(f"PD101/{subject}", date, "PD101", "idle-close-race", "Idle-close race", subject),
        *(Severity.ERROR, Confidence.CONFIRMED, f"{count} requests", count, count, ts_ns, ts_ns + count),
    )
    upstream = UpstreamDay(
        *(
            UPSTREAM,
            date,
            5,
            4,
            exchanges,
            3,
            2,
            count,
            1000,
            2000,
            3000,
            5 * 10**9,
            10**6,
            7,
            Confidence.LIKELY,
            "nginx",
            *(gaps_near, lost_near, 320 * 10**6, 160 * 10**6, watched_ppm),
        ),
    )
    values = {
        "key": key,
        "series": "/c/a.pcap",
        "program_version": "1",
        "paths": (f"/c/{key}.pcap",),
        "context_paths": (),
        "after_ts_ns": -1,
        "until_ts_ns": -1,
        "files": (FileRecord(f"/c/{key}.pcap", stamp, FileStatus.OK, "h", 1, "s", key, ts_ns, ts_ns),),
        "status": FileStatus.OK,
        "first_ts_ns": ts_ns,
        "last_ts_ns": ts_ns + 3_600 * 10**9,
        "frames": 1,
        "n_bytes": 1,
        "connections": 5,
        "exchanges": exchanges,
        "unanswered": count,
        "truncated": 0,
        "report_identifier": "r",
        "upstreams": (upstream,),
        "sightings": (seen,) if count else (),
        "report": b"",
    }
    return CaptureResult(**values | changes)
