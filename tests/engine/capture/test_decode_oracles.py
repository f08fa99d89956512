"""Decoding against tools that nobody here wrote: tshark's innermost view of the corpus, dpkt's of the lab."""

import dpkt
import pytest

from pcapdiag.base.codes import FrameKind
from pcapdiag.base.units import format_address
from pcapdiag.engine.capture.batch import Capture, CaptureFile
from pcapdiag.engine.capture.reader import read_batches

pytestmark = pytest.mark.compiled_only

EVERY = 10
"""Of the larger sets every tenth capture is compared, since each costs a run of tshark; all of them agree."""

SETS = {
    "AlexeyVasilev+PcapFlowLab": EVERY,
    "the-tcpdump-group+tcpdump": EVERY,
    "seladb+PcapPlusPlus": EVERY,
    "google+gopacket": 1,
}

DECISIONS = {
    "17_vxlan_udp_port_and_header_matrix.pcap": "VXLAN is told by destination port and I flag, tshark asks neither",
    "19_tcp_syn_tcp_header_snaplen_truncated.pcap": "no ports from less than 20 bytes of TCP header",
    "bgp-aigp.pcap": "Juniper's own link header is not followed",
    "arcnet-rfc1051-arp-icmp-http.pcap": "ARCNET is not followed",
    "CiscoHDLC.pcap": "Cisco HDLC is not followed",
    "ipoib.pcap": "IP over InfiniBand is not followed",
    "of13_ericsson.pcapng": "packets quoted inside OpenFlow messages are payload",
    "sflow_expanded.pcap": "packets quoted inside sFlow samples are payload",
    "kday4.pcap": "the IP header's length counts where it exceeds the frame",
    "kday7.pcap": "the IP header's length counts where it exceeds the frame",
    "kday8.pcap": "the IP header's length counts where it exceeds the frame",
    "bgp-bgp_capabilities_print-oobr-1.pcap": "a first fragment is a fragment, whatever it holds",
    "bgp_pmsi_tunnel-oobr.pcap": "a first fragment is a fragment, whatever it holds",
    "rpki-rtr-oobr.pcap": "a first fragment is a fragment, whatever it holds",
}
UNKNOWN_TO_TSHARK = ("bigtcp-", "dsa", "edsa")
"""Captures with what tshark 4.0 did not know yet: IP packets beyond 64 KiB, Marvell's switch tags."""

FIELDS = (
    "frame.number",
    "ip.src",
    "ip.dst",
    "ipv6.src",
    "ipv6.dst",
    "tcp.srcport",
    "tcp.dstport",
    "tcp.seq_raw",
    "tcp.len",
    "tcp.window_size_value",
    "tcp.options.mss_val",
    "tcp.options.wscale.shift",
    "tcp.options.timestamp.tsval",
    "frame.protocols",
)


def read_rows(path):
    return [row.copy() for batch in read_batches(Capture([CaptureFile(str(path))])) for row in batch.frames]


def text(number):
    return str(number) if number >= 0 else ""


def differs(row, seen):
    """Return whether a row and tshark's fields disagree about a TCP header."""
    protocols = seen[13].split(":")
    if row["kind"] != FrameKind.TCP:
        quoted = {"icmp", "icmpv6"} & set(protocols)
        return "tcp" in protocols and seen[5] != "" and not quoted
    ends = format_address(row["src_hi"], row["src_lo"]), format_address(row["dst_hi"], row["dst_lo"])
    header = [text(row[name]) for name in ("src_port", "dst_port", "seq", "payload_len", "window")]
    options = [text(row[name]) for name in ("mss", "wscale", "ts_val")]
    # A packet of one version in one of the other fills all four address fields.
    return ends not in (seen[1:3], seen[3:5]) or tuple(header) != seen[5:10] or tuple(options) != seen[10:13]


def captures(corpus, name, every):
    paths = sorted(p for p in (corpus / name).rglob("*.pcap*") if p.suffix in {".pcap", ".pcapng"} and p.stat().st_size)
    return [p for p in paths[::every] if not p.name.startswith(UNKNOWN_TO_TSHARK)]


@pytest.mark.corpus
@pytest.mark.parametrize("name", SETS)
def test_the_innermost_tcp_header_is_the_one_that_tshark_sees(corpus, tshark, name):
    different = []
    n_frame = 0
    for path in captures(corpus, name, SETS[name]):
        try:
            lines = tshark(path, *FIELDS, options=("-E", "occurrence=l", "-o", "tcp.desegment_tcp_streams:FALSE"))
        except AssertionError:
            continue  # damaged beyond what tshark reads
        for row, seen in zip(read_rows(path), lines, strict=False):
            n_frame += 1
            if differs(row, seen) and path.name not in DECISIONS:
                different.append((path.name, int(row["frame"]) + 1, FrameKind(row["kind"]).name, seen))
    assert different == []
    assert n_frame > 0


@pytest.mark.lab
@pytest.mark.parametrize(
    "form", ["proxy.pcap", "proxy_any_sll.pcap", "proxy_any_sll2.pcap", "span_vlan100.pcap", "proxy_s96.pcap"]
)
def test_dpkt_finds_the_same_segments_in_a_lab_capture(lab, form):
    path = next(iter(sorted(lab.rglob(form))), None)
    if path is None:
        pytest.skip(f"no {form} among the lab captures")
    rows = read_rows(path)
    with path.open("rb") as file:
        reader = dpkt.pcap.Reader(file)
        link = {1: dpkt.ethernet.Ethernet, 113: dpkt.sll.SLL, 276: dpkt.sll2.SLL2}[reader.datalink()]
        frames = [link(data) for _, data in reader]
    assert len(frames) == len(rows) > 0
    for frame, row in zip(frames, rows, strict=True):
        ip = frame.data
        if not isinstance(ip, dpkt.ip.IP | dpkt.ip6.IP6) or not isinstance(ip.data, dpkt.tcp.TCP):
            assert row["kind"] != FrameKind.TCP
            continue
        segment = ip.data
        expected = (segment.sport, segment.dport, segment.seq, segment.flags & 0xFF, segment.win, len(segment.data))
        found = ("src_port", "dst_port", "seq", "flags", "window", "payload_cap")
        assert tuple(int(row[name]) for name in found) == expected
