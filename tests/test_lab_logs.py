"""Every upstream entry of the lab's logs has its verdict, and each that is explained points to the right try.

The truth of an entry is found without the joiner: by its connection number in the access log, there to the request
identifier, and by that to the packets. The joiner itself gets no request identifiers in any variant but `given`.
"""

import dataclasses
import random
import struct
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from pcapdiag.proxy.conf.read import read_proxy_conf
from pcapdiag.proxy.join.join import join_logs
from pcapdiag.proxy.join.ledger import EntryVerdict
from pcapdiag.proxy.join.places import CaptureSpan
from pcapdiag.proxy.join.symptoms import FOUND_NO_PEER
from pcapdiag.proxy.logs.access_log import read_access_log
from pcapdiag.proxy.logs.entries import LogKind
from pcapdiag.proxy.logs.error_log import read_error_log
from tests.lab_truth import LAB, scenarios

pytestmark = pytest.mark.lab

SCENARIOS = [s for s in (scenarios() if LAB.is_dir() else []) if (LAB / s / "proxy" / "error.log").stat().st_size]
FORMAT = (
    '$msec $connection $connection_requests "$upstream_addr" "$upstream_status" "$upstream_response_time" '
    '"$upstream_connect_time" "$upstream_header_time" $request_id $status $request_time $remote_addr:$remote_port '
    '"$request"'
)
S, MS = 10**9, 10**6
FEW = ("g_read_timeout", "h_connect_fail", "n_ipv6_race")
FORMS = (
    *("derived/mid_start.pcap", "proxy_any_sll.pcap", "proxy_any_sll2.pcap", "proxy_any.pcapng", "proxy_s96.pcap"),
    "derived/merged_proxy_and_upstreams.pcap",
)


@cache
def wires_of(scenario, form="proxy.pcap"):
    from pcapdiag.analysis.build import build_analysis
    from pcapdiag.analysis.tries import list_tries
    from pcapdiag.engine.capture.series import group_captures

    with TemporaryDirectory() as folder:
        path = LAB / scenario / form
        if form in KEPT:
            path = Path(folder) / "proxy.pcap"
            copy_some(LAB / scenario / "proxy.pcap", path, KEPT[form](random.Random(scenario)))
        analysis = build_analysis(group_captures([str(path)]))
    peers = frozenset(str(u.endpoint) for u in analysis.upstreams)
    return list_tries(analysis), CaptureSpan(analysis.first_ts_ns, analysis.last_ts_ns, peers)


KEPT = {
    "3 % dropped": lambda rng: lambda _part: rng.random() >= 0.03,
    "second half": lambda _rng: lambda part: part >= 0.5,
}
"""Forms that are made on the way: which frames are kept, by how far into the file they are."""


def copy_some(source, target, is_kept):
    """Copy the records of a pcap file that are to be kept."""
    data = source.read_bytes()
    order = "<" if data[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
    pieces, at = [data[:24]], 24
    while at + 16 <= len(data):
        end = at + 16 + struct.unpack_from(order + "I", data, at + 8)[0]
        if is_kept(at / len(data)):
            pieces.append(data[at:end])
        at = end
    target.write_bytes(b"".join(pieces))


@cache
def logs_of(scenario):
    folder = LAB / scenario / "proxy"
    errors = tuple(e for e in read_error_log(str(folder / "error.log")) if e.concerns_upstream)
    return errors, tuple(read_access_log(str(folder / "access.log"), FORMAT)), read_proxy_conf(folder / "nginx.conf")


@cache
def truth_of_entries(scenario):
    """Return for each line the (peer, request id, end) of its try in the access log; several where that is open."""
    errors, accesses, _ = logs_of(scenario)
    tries = defaultdict(list)
    for access in accesses:
        for number, attempt in enumerate(access.tries):
            later = sum(max(t.response_time_ns, 0) for t in access.tries[number + 1 :])
            tries[access.log_conn, attempt.addr].append(
                (access.ts_ns - later, attempt.response_time_ns, access, attempt.header_time_ns < 0)
            )
    by_line = {}
    for entry in errors:
        stamp = entry.ts_s * S
        by_line[entry.line] = [
            (entry.upstream_peer, access.request_id, end)
            for end, lasted, access, has_failed in tries[entry.log_conn, entry.upstream_peer]
            if access.method == entry.method and stamp - 6 * MS <= end
            # What is no HTTP is passed on after it was logged.
            if end - (lasted if entry.kind is LogKind.NO_VALID_HEADER else 0) < stamp + S + 6 * MS
            if has_failed or entry.action == "reading upstream" or entry.kind is LogKind.NO_VALID_HEADER
        ]
    # A request may fail twice at one peer within a second: then its entries are in the order of its tries.
    alike = defaultdict(list)
    for entry in errors:
        if len(by_line[entry.line]) > 1:
            key = entry.log_conn, entry.kind is LogKind.SERVER_DISABLED, tuple(by_line[entry.line])
            alike[key].append(entry.line)
    for (_, _, ends), lines in alike.items():
        if len(lines) == len(ends):
            by_line.update({line: [end] for line, end in zip(lines, sorted(ends, key=lambda t: t[2]), strict=True)})
    return by_line


def is_right(wire, truths, wires_with_ids):
    """Whether a try is the one that the access log says: the same request, and of its tries the one that ended then."""
    ended = max(wire.proxy_close_ns, wire.upstream_close_ns)
    known = wires_with_ids[wire.key].request_id
    for peer, request_id, end in truths:
        if wire.peer != peer or (known and known != request_id):
            continue
        same = [w for w in wires_with_ids.values() if w.request_id == request_id and w.peer == peer]
        is_silent = wire.proxy_close_ns < 0 and wire.upstream_close_ns < 0
        if (known and len(same) == 1) or abs(ended - end) <= 15 * MS or (is_silent and wire.start_ns < end):
            return True
    return False


def judge(scenario, *, form="proxy.pcap", ids=False, shift_s=0, access=True, conf=True, half=False):
    """Return the number of entries and of undetermined ones; every explained one is compared with the truth."""
    wires, span = wires_of(scenario, form)
    errors, accesses, settings = logs_of(scenario)
    with_ids = {w.key: w for w in wires}
    if not ids:
        wires = [dataclasses.replace(w, request_id="") for w in wires]
    if half:
        errors = sorted(random.Random(1).sample(errors, len(errors) // 2), key=lambda e: e.line)
    errors = [dataclasses.replace(e, ts_s=e.ts_s + shift_s) for e in errors]
    ledger = join_logs(wires, span, errors, accesses if access else (), settings if conf else None)
    assert [j.entry.line for j in ledger.entries] == [e.line for e in errors]
    wrong = [
        j.entry.line
        for j in ledger.entries
        if j.verdict is EntryVerdict.EXPLAINED
        and not is_right(j.wire, truth_of_entries(scenario)[j.entry.line], with_ids)
    ]
    assert wrong == []
    nothing_sent = [j for j in ledger.entries if j.verdict is EntryVerdict.NO_PACKETS_EXPECTED]
    assert {j.entry.kind for j in nothing_sent} <= {LogKind.NO_LIVE_UPSTREAMS}
    assert len(nothing_sent) == len(ledger.chains)
    if not half and conf and form not in KEPT:
        assert all(chain.is_complete for chain in ledger.chains)
    if form == "proxy.pcap":
        assert all(j.verdict is not EntryVerdict.NOT_CAPTURED for j in ledger.entries)
    return len(errors), sum(j.verdict is EntryVerdict.UNDETERMINED for j in ledger.entries)


VARIANTS = {
    "given": {"ids": True},
    "without request identifiers": {},
    "8 hours ahead": {"shift_s": 8 * 3600},
    "137 s ahead": {"shift_s": 137},
    "137 s behind": {"shift_s": -137},
    "without access log": {"access": False},
    "without configuration": {"conf": False},
    "error log alone, 8 hours ahead": {"shift_s": 8 * 3600, "access": False, "conf": False},
    "half of the lines": {"half": True},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_entry_of_a_few_scenarios_has_its_verdict(lab, variant):  # noqa: ARG001 - skips without the lab
    assert [judge(scenario, **VARIANTS[variant])[1] for scenario in FEW] == [0] * len(FEW)


@pytest.mark.compiled_only
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_entry_of_every_scenario_has_its_verdict(lab, variant):  # noqa: ARG001 - skips without the lab
    counts = [judge(scenario, **VARIANTS[variant]) for scenario in SCENARIOS]
    n_entries, n_undetermined = (sum(column) for column in zip(*counts, strict=True))
    assert n_entries >= 700
    assert n_undetermined <= 0.02 * n_entries if VARIANTS[variant].get("half") else n_undetermined == 0


@pytest.mark.compiled_only
@pytest.mark.parametrize("form", KEPT)
def test_what_the_capture_lacks_makes_no_entry_point_to_the_wrong_try(lab, form):  # noqa: ARG001 - as above
    counts = [judge(scenario, form=form, ids=True) for scenario in SCENARIOS]
    n_entries, n_undetermined = (sum(column) for column in zip(*counts, strict=True))
    assert n_entries >= 700
    assert n_undetermined <= 0.02 * n_entries


@pytest.mark.parametrize("access", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_another_form_of_the_capture_tells_the_same(lab, form, access):  # noqa: ARG001 - skips without the lab
    _, n_undetermined = judge("a_idle_race", form=form, access=access)
    assert n_undetermined == 0


def test_entries_from_before_the_capture_are_not_in_it(lab):  # noqa: ARG001 - skips without the lab
    wires, span = wires_of("a_idle_race", "derived/mid_start.pcap")
    errors, accesses, settings = logs_of("a_idle_race")
    ledger = join_logs(wires, span, errors, accesses, settings)
    missing = [j.entry for j in ledger.entries if j.verdict is EntryVerdict.NOT_CAPTURED]
    assert Counter(e.kind in FOUND_NO_PEER for e in missing) == {False: 6, True: 8}
    assert all(e.ts_s * S < span.first_ns for e in missing)


@pytest.mark.compiled_only
@pytest.mark.parametrize(
    ("case", "part"),
    [("a_big", 0.3), ("a_idle_race", 0.5), ("e_upstream_reload", 0.7), ("h_connect_fail", 0.3), ("l_tls_race", 0.5)],
)
def test_one_log_for_two_captures_is_counted_once(lab, tmp_path, case, part):
    from pcapdiag import analyze

    log = lab / case / "proxy/error.log"

    def count(path):
        report = analyze(path, error_logs=[log]).report
        no_packets = [e for e in report.log.entries if e.verdict is EntryVerdict.NO_PACKETS_EXPECTED]
        by_code = Counter({f.code: f.count for f in report.findings if f.code in {"PD401", "PD402", "PD601"}})
        assert sum(e.code == "PD601" for e in no_packets) == by_code["PD601"]
        return by_code

    halves = cut_in_two(lab / case / "proxy.pcap", part, tmp_path)
    assert count(halves[0]) + count(halves[1]) == count(lab / case / "proxy.pcap")


def cut_in_two(path, part, folder):
    """Cut a pcap in two after a part of its records."""
    data = path.read_bytes()
    starts = [24]
    while starts[-1] < len(data):
        starts.append(starts[-1] + 16 + int.from_bytes(data[starts[-1] + 8 : starts[-1] + 12], "little"))
    at = starts[int(len(starts) * part)]
    halves = folder / "first.pcap", folder / "second.pcap"
    halves[0].write_bytes(data[:at])
    halves[1].write_bytes(data[:24] + data[at:])
    return halves


def test_the_client_leg_alone_holds_none_of_them(lab):  # noqa: ARG001 - skips without the lab
    wires, span = wires_of("a_idle_race", "proxy_client_side.pcap")
    errors, accesses, settings = logs_of("a_idle_race")
    ledger = join_logs(wires, span, errors, accesses, settings)
    verdicts = {j.verdict for j in ledger.entries}
    assert verdicts == {EntryVerdict.NOT_CAPTURED, EntryVerdict.NO_PACKETS_EXPECTED}
