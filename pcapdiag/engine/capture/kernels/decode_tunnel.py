"""Steps through tunnels that IP and UDP carry: GRE (in IP, in UDP), VXLAN, GENEVE, GTP-U.

Same form as `decode_link`: a step returns ``(layer, value, offset)``. A UDP port is only a hint, so a datagram is taken
for a tunnel only if the tunnel's header agrees. A step that finds no IP inside says NON_IP; what the frame is then, the
IP header around the tunnel decides.
"""

import numpy as np

from pcapdiag.base.codes import FrameKind
from pcapdiag.engine.capture.kernels.decode_link import (
    DONE,
    ETHERNET,
    ETHERTYPE,
    IPV4,
    IPV6,
    PPP,
    read_u16,
    read_u32,
    verdict,
)
from pcapdiag.engine.compiler.policy import kernel

_NON_IP = int(FrameKind.NON_IP)

_PORT_VXLAN = 4789
_PORT_VXLAN_LINUX = 8472  # Linux's default before IANA assigned one; flannel and Cilium still use it
_PORT_GENEVE = 6081
_PORT_GTP_U = 2152
_PORT_GRE = 4754  # RFC 8086

_GRE_CHECKSUM = 0x8000
_GRE_ROUTING = 0x4000
_GRE_KEY = 0x2000
_GRE_SEQUENCE = 0x1000
_GRE_ACK = 0x0080  # version 1 only

_MAX_GTP_EXTENSIONS = 8


@kernel
def _no_ip_inside(offset):
    return DONE, verdict(_NON_IP, 0), offset


@kernel
def step_gre(buffer, offset, end):
    """Step over GRE: version 0 (RFC 2784, RFC 2890), version 1 as PPTP uses it (RFC 2637), ERSPAN I and II, WCCP."""
    if offset + 4 > end:
        return _no_ip_inside(offset)
    flags = read_u16(buffer, offset)
    ethertype = read_u16(buffer, offset + 2)
    version = flags & 7
    # Source routes (RFC 1701) were withdrawn and nothing sends them.
    if version > 1 or flags & _GRE_ROUTING:
        return _no_ip_inside(offset)
    inner = offset + 4
    if flags & _GRE_CHECKSUM:
        inner += 4
    if flags & _GRE_KEY:
        inner += 4
    if flags & _GRE_SEQUENCE:
        inner += 4
    if version == 1:
        if flags & _GRE_ACK:
            inner += 4
        if ethertype == 0x880B and flags & _GRE_SEQUENCE:
            return PPP, 0, inner
        return _no_ip_inside(offset)
    if ethertype == 0x88BE:  # ERSPAN; only type II has a header of its own, and a sequence number announces it
        if flags & _GRE_SEQUENCE:
            inner += 8
        return ETHERNET, 0, inner
    if ethertype == 0x883E:  # WCCP; version 2 puts a redirect header before the IP packet, version 1 does not
        if inner + 1 > end:
            return _no_ip_inside(offset)
        if buffer[inner] >> 4 != 4:
            inner += 4
        return IPV4, 0, inner
    if ethertype < 0x600:
        return _no_ip_inside(offset)
    return ETHERTYPE, ethertype, inner


@kernel
def step_udp_tunnel(buffer, dst_port, offset, end):
    """Step from the payload of a UDP datagram into the tunnel that its destination port announces, if it is one."""
    if dst_port in (_PORT_VXLAN, _PORT_VXLAN_LINUX):
        return _step_vxlan(buffer, dst_port, offset, end)
    if dst_port == _PORT_GENEVE:
        return _step_geneve(buffer, offset, end)
    if dst_port == _PORT_GTP_U:
        return _step_gtp_u(buffer, offset, end)
    if dst_port == _PORT_GRE:
        return step_gre(buffer, offset, end)
    return _no_ip_inside(offset)


@kernel
def _step_vxlan(buffer, dst_port, offset, end):
    """RFC 7348 section 5: the I flag; the reserved bits must be ignored, but on a port that is not IANA's they tell."""
    if offset + 8 > end or not buffer[offset] & 0x08:
        return _no_ip_inside(offset)
    if dst_port != _PORT_VXLAN and (read_u32(buffer, offset) != 0x08000000 or buffer[offset + 7] != 0):
        return _no_ip_inside(offset)
    return ETHERNET, 0, offset + 8


@kernel
def _step_geneve(buffer, offset, end):
    """RFC 8926 section 3.4."""
    if offset + 8 > end:
        return _no_ip_inside(offset)
    first = np.int64(buffer[offset])
    # version 0, the six reserved bits of the second byte and the last byte clear
    if first >> 6 != 0 or buffer[offset + 1] & 0x3F or buffer[offset + 7] != 0:
        return _no_ip_inside(offset)
    ethertype = read_u16(buffer, offset + 2)
    if ethertype < 0x600:
        return _no_ip_inside(offset)
    return ETHERTYPE, ethertype, offset + 8 + 4 * (first & 0x3F)


@kernel
def _step_gtp_u(buffer, offset, end):
    """3GPP TS 29.281 section 5: version 1, message type 255, optional fields, extension headers."""
    if offset + 8 > end or buffer[offset] & 0xF0 != 0x30 or buffer[offset + 1] != 0xFF:
        return _no_ip_inside(offset)
    inner = offset + 8
    if buffer[offset] & 0x07:  # one flag brings the fields of all three
        inner += 4
        if inner > end:
            return _no_ip_inside(offset)
        if buffer[offset] & 0x04:
            for _ in range(_MAX_GTP_EXTENSIONS):
                if buffer[inner - 1] == 0:
                    break
                # An extension counts its length in words, ends with the type of the next one, and is never empty.
                if inner + 1 > end or buffer[inner] == 0 or inner + 4 * np.int64(buffer[inner]) > end:
                    return _no_ip_inside(offset)
                inner += 4 * np.int64(buffer[inner])
    if inner + 1 > end:
        return _no_ip_inside(offset)
    version = buffer[inner] >> 4
    if version == 4:
        return IPV4, 0, inner
    if version == 6:
        return IPV6, 0, inner
    return _no_ip_inside(offset)
