"""Counts frames of tunnels that decoding does not open: what they carry is not in the report, and the report says so.

Knows ports, protocol numbers and link headers by which such frames are told; opens nothing.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from pcapdiag.base.codes import FrameKind
from pcapdiag.base.findings import Note
from pcapdiag.base.units import count_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pcapdiag.engine.capture.batch import FrameBatch

_UDP_PORTS = {
    1701: "L2TP (UDP port 1701)",
    2152: "GTP-U (UDP port 2152)",
    3544: "Teredo (UDP port 3544)",
    4500: "IPsec in UDP (port 4500)",
    4789: "VXLAN (UDP port 4789)",
    4790: "VXLAN-GPE (UDP port 4790)",
    6081: "Geneve (UDP port 6081)",
    6635: "MPLS in UDP (port 6635)",
    8472: "VXLAN (UDP port 8472)",
    51820: "WireGuard (UDP port 51820)",
}
_IP_PROTOCOLS = {50: "IPsec ESP", 51: "IPsec AH", 94: "IPIP (protocol 94)", 108: "IPComp", 115: "L2TPv3"}
_PPP, _CISCO_UNICAST, _CISCO_BROADCAST = 9, 0x0F, 0x8F
_IPV4_ETHERTYPE, _IPV6_ETHERTYPE = 0x0800, 0x86DD


class TunnelTally:
    """Counts, over one capture, frames that hold a tunnel nobody opened."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def take(self, batch: FrameBatch) -> None:
        """Count the frames of a batch.

        Parameters
        ----------
        batch : FrameBatch
            Decoded frames.
        """
        frames = batch.frames
        kind = frames["kind"]
        udp = kind == FrameKind.UDP
        if udp.any():
            port = frames["dst_port"][udp]
            for number, name in _UDP_PORTS.items():
                self._add(name, int((port == number).sum()))
        other = kind == FrameKind.OTHER_IP
        if other.any():
            protocol = frames["ip_proto"][other]
            for number, name in _IP_PROTOCOLS.items():
                self._add(name, int((protocol == number).sum()))
        ppp = np.flatnonzero((frames["link_type"] == _PPP) & (kind != FrameKind.TCP) & (frames["cap_len"] >= 4))
        if len(ppp):
            at, data = frames["record_offset"][ppp], batch.buffer
            is_cisco = (data[at] == _CISCO_UNICAST) | (data[at] == _CISCO_BROADCAST)
            ethertype = data[at + 2].astype(np.int64) << 8 | data[at + 3]
            is_ip = (ethertype == _IPV4_ETHERTYPE) | (ethertype == _IPV6_ETHERTYPE)
            self._add("Cisco HDLC", int((is_cisco & (data[at + 1] == 0) & is_ip).sum()))

    def notes(self) -> Iterator[Note]:
        """Yield one note for each kind of tunnel, the most frequent first."""
        for name, n in self._counts.most_common():
            text = (
                f"{count_of(n, 'frame')} of {name}: what {'it carries' if n == 1 else 'they carry'} was not looked at;"
                " connections inside are in no table"
            )
            yield Note("tunnel-not-opened", text)

    def _add(self, name: str, n: int) -> None:
        if n:
            self._counts[name] += n
