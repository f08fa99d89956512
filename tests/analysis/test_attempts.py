"""Attempts are judged when all was seen: opened after all, repeated by a kernel, witnessed, raced, scanned."""

import pytest

from pcapdiag.analysis.attempts import SCAN_ENDPOINTS, is_still_open
from pcapdiag.analysis.build import build_analysis
from pcapdiag.analysis.model import AttemptSign
from pcapdiag.base.codes import Key
from pcapdiag.engine.capture.series import group_captures
from tests.scenario import Form, build_frame, parse, write_capture, write_frames

OTHER = """
+0     @9 >  S
+0.01  @9 <  S.
+0     @9 >  .
+0     @9 >  P.  "GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n"
+0.01  @9 <  P.  "HTTP/1.1 204 No Content\\r\\n\\r\\n"
"""


def analysis_of(tmp_path, data):
    path = tmp_path / "a.pcap"
    path.write_bytes(data)
    return build_analysis(group_captures([str(path)]))


def attempts_of(tmp_path, script, **form):
    losses = analysis_of(tmp_path, write_capture(parse(script), **form)).losses
    return [loss for loss in losses if loss.is_connect]


def merged(*parts):
    """Return a capture of several scripts, each with its form, by time."""
    frames = [
        (form.start_ns + segment.ts_ns, build_frame(segment, form))
        for script, form in parts
        for segment in parse(script)
        if not segment.lost
    ]
    return write_frames(sorted(frames, key=lambda frame: frame[0]), Form())


@pytest.mark.parametrize("gaps", [(1,), (3,), (1, 2, 4), (1, 1, 1, 1, 2), (1.02, 2.05)])
def test_a_kernel_repeats_a_syn_at_intervals_that_do_not_shrink(tmp_path, gaps):
    script = "+0 > S\n" + "".join(f"+{gap} > S 0:1(0)\n" for gap in gaps).replace("0:1(0)", "0:0(0)")
    (loss,) = attempts_of(tmp_path, script)
    assert loss.attempt == AttemptSign.REPEATED


@pytest.mark.parametrize("gaps", [(6.4, 2.8, 2.8), (0.01,), (2, 0.5)])
def test_no_kernel_repeats_a_syn_sooner_and_sooner(tmp_path, gaps):
    script = "+0 > S\n" + "".join(f"+{gap} > S 0:0(0)\n" for gap in gaps)
    (loss,) = attempts_of(tmp_path, script)
    assert loss.attempt == AttemptSign.MADE_UP


def test_packets_to_the_proxy_witness_that_an_answer_would_be_there(tmp_path):
    (alone,) = attempts_of(tmp_path, "+0 > S")
    (beside,) = attempts_of(tmp_path, f"+0 > S{OTHER}")
    (long_before,) = attempts_of(tmp_path, f"{OTHER}+60 > S".lstrip())
    signs = [bool(loss.attempt & AttemptSign.WITNESSED) for loss in (alone, beside, long_before)]
    assert signs == [False, True, False]


def test_a_syn_ack_after_a_rst_opens(tmp_path):
    script = """
    +0      >  S
    +0.001  <  R.  0:0(0) ack 1
    +0.001  <  S.  0:0(0) ack 1
    +0      >  .   1:1(0) ack 1
    +0      >  P.  1:19(18) ack 1  "GET / HTTP/1.0\\r\\n\\r\\n"
    +0.01   <  P.  1:20(19) ack 19 "HTTP/1.0 200 OK\\r\\n\\r\\n"
    """
    assert attempts_of(tmp_path, script) == []


def test_a_syn_that_is_stored_after_its_connection_is_no_attempt(tmp_path):
    script = """
    +0      <  S.  0:0(0) ack 1
    +0.001  >  .   1:1(0) ack 1
    +0      >  P.  1:19(18) ack 1  "GET / HTTP/1.0\\r\\n\\r\\n"
    +0.01   <  P.  1:20(19) ack 19 "HTTP/1.0 200 OK\\r\\n\\r\\n"
    +0      <  F.  20:20(0) ack 19
    +0      >  F.  19:19(0) ack 21
    +0      <  .   21:21(0) ack 20
    +0.1    >  S   0:0(0)
    +2      @1 >  S
    """
    (loss,) = attempts_of(tmp_path, script)
    assert loss.connection.orig.port == 40001


def test_another_number_on_the_same_ports_is_another_attempt(tmp_path):
    script = """
    +0      <  S.  0:0(0) ack 1
    +0.001  >  .   1:1(0) ack 1
    +0      >  P.  1:19(18) ack 1  "GET / HTTP/1.0\\r\\n\\r\\n"
    +0.01   <  P.  1:20(19) ack 19 "HTTP/1.0 200 OK\\r\\n\\r\\n"
    +0      <  F.  20:20(0) ack 19
    +0      >  F.  19:19(0) ack 21
    +0      <  .   21:21(0) ack 20
    +5      >  S   900000:900000(0)
    """
    assert len(attempts_of(tmp_path, script)) == 1


def test_who_acknowledges_something_had_an_answer(tmp_path):
    assert attempts_of(tmp_path, "+0 > S\n+0.01 > . 1:1(0) ack 1") == []


def test_a_rst_of_the_syns_own_sender_refuses_nothing(tmp_path):
    assert attempts_of(tmp_path, "+0 > S\n+0.01 > R 1:1(0)") == []


@pytest.mark.parametrize(
    ("silent", "after_s", "is_raced"),
    [
        ("+0 > S", 0.25, True),
        ("+0 > S", 0.3, True),
        ("+0 > S", 0.5, False),  # that is a timeout of somebody who then asks another peer
        ("+0 > S\n+1 > S 0:0(0)", 0.25, False),  # whoever has another connection takes the attempt back
    ],
)
def test_happy_eyeballs_give_a_silent_family_a_quarter_second(tmp_path, silent, after_s, is_raced):
    opened = Form(orig="127.0.0.1", resp="127.0.0.1", orig_port=50_000)
    (tmp_path / "a.pcap").write_bytes(
        merged((silent, Form(orig="::1", resp="::1")), (f"+{after_s} > S\n+0.001 < S.", opened))
    )
    (loss,) = [x for x in build_analysis(group_captures([str(tmp_path / "a.pcap")])).losses if x.is_connect]
    assert bool(loss.attempt & AttemptSign.RACED) == is_raced


@pytest.mark.parametrize(("after_s", "is_raced"), [(0.0002, True), (0.2, True), (0.4, False)])
@pytest.mark.parametrize("swapped", [False, True])
def test_happy_eyeballs_open_the_other_family_within_a_quarter_second(tmp_path, after_s, is_raced, swapped):
    forms = [Form(orig="::1", resp="::1"), Form(orig="127.0.0.1", resp="127.0.0.1", orig_port=50_000)]
    refused, opened = reversed(forms) if swapped else forms
    data = merged(("+0 > S\n+0.001 < R. 0:0(0) ack 1", refused), (f"+{0.001 + after_s:.4f} > S\n+0.001 < S.", opened))
    (loss,) = [loss for loss in analysis_of(tmp_path, data).losses if Key.RESP_RST in loss.keys]
    assert bool(loss.attempt & AttemptSign.RACED) == is_raced


@pytest.mark.parametrize("change", [{"resp_port": 81}, {"orig": "127.0.0.1", "resp": "127.0.0.1"}])
def test_another_port_or_the_same_family_is_no_race(tmp_path, change):
    refused = Form(orig="::1", resp="::1") if "resp_port" in change else Form(orig="127.0.0.1", resp="127.0.0.2")
    opened = Form(**{"orig": "127.0.0.1", "resp": "127.0.0.1", "orig_port": 50_000} | change)
    data = merged(("+0 > S\n+0.001 < R. 0:0(0) ack 1", refused), ("+0.002 > S\n+0.001 < S.", opened))
    (loss,) = [loss for loss in analysis_of(tmp_path, data).losses if Key.RESP_RST in loss.keys]
    assert not loss.attempt & AttemptSign.RACED


def test_what_opens_all_the_time_is_no_answer_to_a_refusal(tmp_path):
    busy = "".join(f"+0.02 @{n} > S\n+0.001 @{n} < S.\n" for n in range(40))
    opened = Form(orig="10.0.0.9", resp="10.0.0.1", orig_port=50_000)
    refused = Form(orig="2001:db8::9", resp="2001:db8::1")
    data = merged(("+0.4 > S\n+0.001 < R. 0:0(0) ack 1", refused), (busy, opened))
    (loss,) = [loss for loss in analysis_of(tmp_path, data).losses if Key.RESP_RST in loss.keys]
    assert not loss.attempt & AttemptSign.RACED


def probes(n, step_s, answer=""):
    """Return single SYNs to `n` ports of one machine."""
    return [(f"+{1 + i * step_s:.3f} > S\n{answer}", Form(resp_port=1000 + i, orig_port=33_000)) for i in range(n)]


@pytest.mark.parametrize(
    ("n", "step_s", "is_scan"), [(SCAN_ENDPOINTS + 1, 0.1, True), (SCAN_ENDPOINTS, 0.1, False), (40, 5, False)]
)
def test_single_syns_to_many_ports_within_seconds_are_a_scan(tmp_path, n, step_s, is_scan):
    data = merged(*probes(n, step_s), ("+400 > S", Form(orig="10.9.0.7")))
    losses = [loss for loss in analysis_of(tmp_path, data).losses if loss.connection.orig.address == "10.9.0.100"]
    assert {bool(loss.attempt & AttemptSign.SCAN) for loss in losses} == {is_scan}
    assert len(losses) == n


def test_what_a_scan_was_refused_is_part_of_it(tmp_path):
    refused = ("+2 > S\n+0.001 < R. 0:0(0) ack 1", Form(resp_port=22, orig_port=33_001))
    data = merged(*probes(30, 0.1), refused, ("+400 > S", Form(orig="10.9.0.7")))
    (loss,) = [loss for loss in analysis_of(tmp_path, data).losses if Key.RESP_RST in loss.keys]
    assert loss.attempt & AttemptSign.SCAN


def test_peers_that_all_refuse_are_no_scan(tmp_path):
    data = merged(*probes(40, 0.1, "+0.001 < R. 0:0(0) ack 1"))
    assert not any(loss.attempt & AttemptSign.SCAN for loss in analysis_of(tmp_path, data).losses)


def test_syns_that_a_kernel_repeats_are_no_scan(tmp_path):
    data = merged(*probes(40, 0.01, "+1 > S 0:0(0)"), ("+60 > S", Form(orig="10.9.0.7")))
    assert not any(loss.attempt & AttemptSign.SCAN for loss in analysis_of(tmp_path, data).losses)


def test_syns_that_the_capture_ends_after_are_no_scan_yet(tmp_path):
    data = merged(*probes(40, 0.001))
    assert not any(loss.attempt & AttemptSign.SCAN for loss in analysis_of(tmp_path, data).losses)


@pytest.mark.parametrize(
    ("script", "is_open"),
    [
        ("+0 > S", True),
        ("+0 > S\n+0.5 @1 > S", True),
        ("+0 > S\n+1.5 @1 > S", False),
        ("+0 > S\n+0.5 > S 0:0(0)", False),
        ("+0 > S\n+0.1 < R. 0:0(0) ack 1", False),
    ],
)
def test_what_is_under_a_second_old_at_the_end_is_still_open(tmp_path, script, is_open):
    analysis = analysis_of(tmp_path, write_capture(parse(script)))
    assert is_still_open(analysis.losses[0], analysis.last_ts_ns) == is_open


def test_so_many_ports_of_one_machine_are_a_scan_whatever_it_answers(tmp_path):
    data = merged(*probes(150, 0.01, "+0.001 < R. 0:0(0) ack 1"))
    assert all(loss.attempt & AttemptSign.SCAN for loss in analysis_of(tmp_path, data).losses)
