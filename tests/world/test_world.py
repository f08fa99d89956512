"""The harness over the world's captures: what goes wrong is told, and what differs has a reason or is counted."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from pcapdiag.base.errors import CaptureError
from tests.world import engine
from tests.world.__main__ import Tally, find_captures, main
from tests.world.compare import OURS, TSHARK, Difference
from tests.world.reasons import RULES, Judged, judge
from tests.world.shark import read_fields
from tests.world.table import MISTAKE, TABLE, Row, read_table
from tests.world.views import Connection, Message

pytestmark = [
    pytest.mark.compiled_only,
    # A worker of the tests has threads; a worker of the harness has none.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
CAPTURES = Path(__file__).resolve().parents[2] / "captures"
OK = engine.Outcome(None, most_kib=1024)
LINES = (
    "1\teth:ethertype:ip:tcp:http\t0\t40000\t8080\t0x0018\tGET\t",
    "2\teth:ethertype:ip:tcp:http\t0\t8080\t40000\t0x0018\t\t100,200",
    "3\teth:ethertype:ip:udp:ssdp\t\t\t\t\tNOTIFY\t",
    "4\teth:ethertype:ip:icmp:ip:tcp\t1\t40001\t8080\t0x0002\t\t",
    "5\teth:ethertype:ip:tcp\t2\t8080\t40002\t0x0002\t\t",
)


def judged(*reasons, agree=98, total=100, **outcome):
    """Return what became of a capture with so many connections, and one response on which both agree."""
    counts = {"connections": (agree, total), "requests": (0, 0), "responses": (1, 1)}
    return Judged(OK._replace(**outcome), "", counts, list(reasons))


def missing(n=1, reason=""):
    """Return a difference about connections, and why."""
    return Difference("connections", TSHARK, Connection(7, (80, 40000)), n, (7,)), reason


def raises(_):
    msg = "list index out of range"
    raise IndexError(msg)


def grows(_):
    return np.ones(2 * engine.MEMORY_BYTES, dtype=np.uint8).sum()


def hangs(_):
    while True:
        pass


def refuses(_):
    msg = "x is not a capture"
    raise CaptureError(msg)


@pytest.mark.parametrize(
    ("work", "told"),
    [(raises, "raises IndexError: list index out of range"), (grows, "wants more than 1024 MiB"), (hangs, "hangs")],
)
def test_what_raises_hangs_or_grows_is_told(work, told, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "CPU_S", 1)
    (tmp_path / "x").touch()
    outcome = engine.run_limited(work, tmp_path / "x")
    assert (outcome.result, outcome.wrong) == (None, told)


def test_a_file_that_is_no_capture_is_refused_and_nothing_is_wrong(tmp_path):
    (tmp_path / "x").touch()
    outcome = engine.run_limited(refuses, tmp_path / "x")
    assert (outcome.refused, outcome.wrong) == ("x is not a capture", "")


def test_what_tshark_writes_is_read_without_quotes_and_interim_responses():
    view = read_fields(LINES).view
    assert view.n_frames == 5
    assert set(view.connections) == {Connection(1, (8080, 40000)), Connection(5, (8080, 40002))}
    assert set(view.messages) == {
        Message("request", "GET", (8080, 40000)),
        Message("response", "200", (8080, 40000)),
    }


def test_shares_count_what_agrees_and_what_is_explained(tmp_path):
    table = tmp_path / "t.tsv"
    table.write_text(TABLE.read_text().splitlines(keepends=True)[0])
    tally = Tally(read_table(table))
    tally.add("a.pcap", judged(missing(1, "a tunnel"), missing(1)))
    assert tally.shares() == {"connections": 0.99, "messages": 1.0}
    assert not tally.is_good
    assert tally.unexplained == ["a.pcap\tconnections\t0\t1\t?\t?"]
    tally.add("b.pcap", judged(agree=400, total=400))
    assert tally.is_good
    tally.add("c.pcap", judged(wrong="hangs"))
    assert not tally.is_good
    assert "WRONG c.pcap: hangs" in list(tally.tell())


@pytest.mark.parametrize(
    ("row", "n_left"),
    [
        (Row("a.pcap", "connections", 0, 2, "fragments", "read"), 0),
        (Row("a.pcap", "connections", 0, 1, "fragments", "other numbers"), 1),
        (Row("a.pcap", "connections", 0, 2, MISTAKE, "known"), 1),
    ],
)
def test_a_row_of_the_table_counts_with_its_numbers_and_if_it_is_no_mistake(row, n_left):
    tally = Tally({"a.pcap": {"connections": row}, "gone.pcap": {"requests": row}})
    tally.add("a.pcap", judged(missing(2)))
    assert len(tally.unexplained) == n_left
    assert tally.shares()["connections"] == (0.98 if n_left else 1)


def test_a_row_that_is_no_difference_any_more_is_told():
    tally = Tally({"a.pcap": {"connections": Row("a.pcap", "connections", 0, 2, "x", "y")}, "elsewhere.pcap": {}})
    tally.add("a.pcap", judged(agree=100))
    assert "NO DIFFERENCE a.pcap connections" in list(tally.tell())
    assert not tally.is_good


def test_the_committed_table_is_well_formed_and_every_row_has_a_reason():
    rows = [row for kinds in read_table(TABLE).values() for row in kinds.values()]
    assert all(row.what in {"frames", "connections", "requests", "responses"} and row.ours + row.tshark for row in rows)
    assert all(len(row.reason.split()) >= 4 for row in rows)


@pytest.mark.parametrize(
    "text", ["a\tb\n", "{0}a.pcap\tframes\t1\t0\tx\n", "{0}{1}{1}"], ids=["header", "fields", "twice"]
)
def test_a_table_in_another_form_is_refused(text, tmp_path):
    header = TABLE.read_text().splitlines(keepends=True)[0]
    table = tmp_path / "t.tsv"
    table.write_text(text.format(header, "a.pcap\tframes\t1\t0\tx\ty\n"))
    with pytest.raises(ValueError, match=r"t\.tsv"):
        read_table(table)


def test_captures_of_any_depth_name_and_container_are_found(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    capture = CAPTURES / "healthy_keepalive" / "proxy.pcap"
    shutil.copy(capture, tmp_path / "a" / "b" / "no-suffix")
    (tmp_path / "broken.pcap").write_bytes(b"no capture")
    (tmp_path / "notes.txt").write_text("no capture")
    (tmp_path / "empty.pcap").touch()
    assert [path.name for path in find_captures(tmp_path)] == ["no-suffix", "broken.pcap"]


@pytest.mark.parametrize(
    ("case", "side", "reason"),
    [
        ("truncated_response/proxy.pcap", OURS, "a message counts from its head on, whatever becomes of its content"),
        ("idle_close_by_rst/proxy.pcap", TSHARK, "a response that no request asked for"),
    ],
)
def test_committed_cases_differ_for_a_reason_alone(case, side, reason, tshark):  # noqa: ARG001 - skips without it
    found = judge(CAPTURES / case)
    assert found.reasons
    assert {(difference.side, why) for difference, why in found.reasons} == {(side, reason)}


SAMPLE = {
    "OISF+suricata-verify/tests/http-connect/http-connect-fragmented/input.pcap": "behind CONNECT",
    "OISF+suricata-verify/tests/http-evader/http-evader-054/input.pcap": "but meant as one",
    "OISF+suricata-verify/tests/http-evader/http-evader-393/input.pcap": "not taken for one",
    "OISF+suricata-verify/tests/http-gap-simple/input.pcap": "never captured",
    "OISF+suricata-verify/tests/mac-eve-packet/test.pcap": "cut off or contradict themselves",
    "OISF+suricata-verify/tests/tcp-urgp-01-oob/tcp-urgent1.pcap": "urgent data",
    "arkime+arkime/tests/pcap/80211http.pcap": "link type that is not decoded",
    "kbandla+dpkt/examples/data/nb6-http.pcap": "a tunnel that is not opened",
    "the-tcpdump-group+tcpdump/tests/dsa.pcap": "a link type that tshark does not open",
    "the-tcpdump-group+tcpdump/tests/rpki-rtr-oobr.pcap": "a fragment of a datagram",
    "zeek+zeek/testing/btest/Traces/http/methods.pcap": "a request line without target or version",
    "zeek+zeek/testing/btest/Traces/tcp/payload-synack.pcap": "bytes on a SYN-ACK",
}


@pytest.mark.corpus
@pytest.mark.parametrize("capture", SAMPLE)
def test_public_captures_differ_for_their_reason(capture, corpus, tshark):  # noqa: ARG001 - skips without it
    found = judge(corpus / capture)
    assert found.reasons
    assert all(SAMPLE[capture] in why for _, why in found.reasons)


def test_every_rule_explains_something_here():
    told = [*SAMPLE.values(), "from its head on", "no request asked for"]
    assert [reason for reason, _, _ in RULES if not any(part in reason for part in told)] == []


def test_the_program_leaves_with_what_it_found(tshark, tmp_path, capsys):  # noqa: ARG001 - skips without it
    shutil.copy(CAPTURES / "healthy_keepalive" / "proxy.pcap", tmp_path)
    assert main([str(tmp_path), "--jobs", "1"]) == 0
    out = capsys.readouterr().out
    assert "1 captures" in out
    assert "connections: 100.000 % agree or are explained" in out
