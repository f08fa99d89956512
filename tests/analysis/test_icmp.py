"""ICMP errors belong to the attempt or request whose segment they quote, and to no other."""

import pytest

from pcapdiag.analysis.build import build_analysis
from pcapdiag.analysis.icmp import MOST_TIED
from pcapdiag.engine.asides.icmp import IcmpKind
from pcapdiag.engine.capture.series import group_captures
from tests.icmp_messages import write_with_icmp
from tests.scenario import Form

MS = 1_000_000
V6 = Form(orig="2001:db8::100", resp="2001:db8::1")
BODY = "x" * 1348
REQUEST = f'1:1401(1400) ack 1 "POST /up HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: 1348\\r\\n\\r\\n{BODY}"'
STUCK = f"""
+0     >  S
+0.01  <  S.
+0     >  .
+0     >  P.  {REQUEST}
+0.3   >  P.  {REQUEST}
+0.6   >  P.  {REQUEST}
"""


def losses_of(tmp_path, data):
    path = tmp_path / "a.pcap"
    path.write_bytes(data)
    return build_analysis(group_captures([str(path)])).losses


@pytest.mark.parametrize("form", [Form(), V6])
def test_an_error_that_quotes_the_syn_is_the_attempts(tmp_path, form):
    its_type, code = (3, 1) if form is not V6 else (1, 3)
    sender = "10.9.0.254" if form is not V6 else "2001:db8::ff"
    (loss,) = losses_of(tmp_path, write_with_icmp("+0 > S", [(0, MS, its_type, code, 0, 0)], form, sender))
    (error,) = loss.icmp
    assert (loss.is_connect, error.kind, error.frame) == (True, IcmpKind.HOST, 1)


def test_an_error_about_another_port_or_another_number_is_not(tmp_path):
    script = "+0 > S\n+0.5 @1 > S"
    first, second = losses_of(tmp_path, write_with_icmp(script, [(1, MS, 3, 1, 0, 0)]))
    assert (len(first.icmp), len(second.icmp)) == (0, 1)


def test_an_error_from_before_the_syn_is_not_about_it(tmp_path):
    (loss,) = losses_of(tmp_path, write_with_icmp("+5 > S", [(0, -2_000 * MS, 3, 1, 0, 0)]))
    assert loss.icmp == ()


def test_an_error_minutes_later_is_not_about_it(tmp_path):
    (loss,) = losses_of(tmp_path, write_with_icmp("+5 > S", [(0, 300_000 * MS, 3, 1, 0, 0)]))
    assert loss.icmp == ()


def test_errors_about_segments_of_a_request_are_its_own(tmp_path):
    errors = [(number, MS, 3, 4, 1400, 28) for number in (3, 4, 5)]
    (loss,) = losses_of(tmp_path, write_with_icmp(STUCK, errors))
    assert [error.mtu for error in loss.icmp] == [1400] * 3


def test_a_flood_of_errors_is_bounded(tmp_path):
    errors = [(0, MS * number, 3, 1, 0, 0) for number in range(1, 100)]
    (loss,) = losses_of(tmp_path, write_with_icmp("+0 > S", errors))
    assert len(loss.icmp) == MOST_TIED


def quoting(tmp_path, script, n_bytes, *, number=0, after_ns=MS, form=None, code=1):
    """Return the losses of a capture with an error that quotes so many bytes, of which 20 are of IPv4."""
    return losses_of(tmp_path, write_with_icmp(script, [(number, after_ns, 3, code, 0, n_bytes)], form))


@pytest.mark.parametrize(
    ("n_bytes", "src_port", "dst_port"), [(20, False, False), (21, False, False), (22, True, False), (27, True, True)]
)
def test_of_a_cut_quotation_ports_or_addresses_are_left(tmp_path, n_bytes, src_port, dst_port):
    (loss,) = quoting(tmp_path, "+0 > S", n_bytes)
    (error,) = loss.icmp
    assert error.is_cut
    assert error.src[2] == (loss.connection.orig.port if src_port else -1)
    assert error.dst[2] == (loss.connection.resp.port if dst_port else -1)


def test_near_miss_a_cut_quotation_of_another_port_is_not_the_attempts(tmp_path):
    first, second = quoting(tmp_path, "+0 > S\n+0.5 @1 > S", 22, number=1)
    assert (len(first.icmp), len(second.icmp)) == (0, 1)


def test_near_miss_addresses_alone_tell_for_seconds_only(tmp_path):
    assert quoting(tmp_path, "+0 > S", 20, after_ns=4_000 * MS)[0].icmp
    assert not quoting(tmp_path, "+0 > S", 20, after_ns=6_000 * MS)[0].icmp
    assert quoting(tmp_path, "+0 > S", 22, after_ns=6_000 * MS)[0].icmp


def test_near_miss_a_cut_quotation_is_not_tied_to_a_request(tmp_path):
    (loss,) = quoting(tmp_path, STUCK, 22, number=3, code=4)
    assert (loss.is_connect, loss.icmp) == (False, ())


def test_a_whole_quotation_wins_over_cut_ones(tmp_path):
    errors = [(0, MS, 3, 1, 0, 22), (0, 2 * MS, 3, 1, 0, 28)]
    (loss,) = losses_of(tmp_path, write_with_icmp("+0 > S", errors))
    assert [error.is_cut for error in loss.icmp] == [False]
