"""Steps through tunnels that IP and UDP carry: GRE, VXLAN, GENEVE, GTP-U.

Same form as `decode_link`: a step returns ``(layer, value, offset)``. A UDP port is only a hint, so a datagram is taken
for a tunnel only if the tunnel's reserved bits agree; otherwise it stays what it is, a UDP datagram.
"""

import numpy as np

from pcapdiag.codes import FrameKind
from pcapdiag.kernels._kernel import kernel
from pcapdiag.kernels.decode_link import DONE, ETHERNET, ETHERTYPE, IPV4, IPV6, PPP, read_u16, verdict

_OTHER_IP = int(FrameKind.OTHER_IP)
_UDP = int(FrameKind.UDP)

_PORTS_VXLAN = (4789, 8472)  # 8472 was Linux's default before IANA assigned one; flannel and Cilium still use it
_PORT_GENEVE = 6081
_PORT_GTP_U = 2152

_GRE_CHECKSUM = 0x8000
_GRE_ROUTING = 0x4000
_GRE_KEY = 0x2000
_GRE_SEQUENCE = 0x1000
_GRE_ACK = 0x0080  # version 1 only

_MAX_GTP_EXTENSIONS = 8


@kernel
def _not_followed(offset):
    return DONE, verdict(_OTHER_IP, 0), offset


@kernel
def _plain_udp(offset):
    return DONE, verdict(_UDP, 0), offset


@kernel
def step_gre(buffer, offset, end):
    """Step over GRE: version 0 (RFC 2784, RFC 2890), version 1 as PPTP uses it (RFC 2637), ERSPAN I and II, WCCP.

    Parameters
    ----------
    buffer : ndarray of uint8, shape (n_byte,)
        Captured bytes.
    offset, end : int
        [bytes] The header, and the end of the captured bytes.

    Returns
    -------
    tuple of int
        ``(layer, value, offset)``.
    """
    if offset + 4 > end:
        return _not_followed(offset)
    flags = read_u16(buffer, offset)
    ethertype = read_u16(buffer, offset + 2)
    version = flags & 7
    # Source routes (RFC 1701) were withdrawn and nothing sends them.
    if version > 1 or flags & _GRE_ROUTING:
        return _not_followed(offset)
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
        return _not_followed(offset)
    if ethertype == 0x88BE:  # ERSPAN; only type II has a header of its own, and a sequence number announces it
        if flags & _GRE_SEQUENCE:
            inner += 8
        return ETHERNET, 0, inner
    if ethertype == 0x883E:  # WCCP; version 2 puts a redirect header before the IP packet, version 1 does not
        if inner + 1 > end:
            return _not_followed(offset)
        if buffer[inner] >> 4 != 4:
            inner += 4
        return IPV4, 0, inner
    if ethertype < 0x600:
        return _not_followed(offset)
    return ETHERTYPE, ethertype, inner


@kernel
def step_udp_tunnel(buffer, dst_port, offset, end):
    """Step from the payload of a UDP datagram into the tunnel its destination port announces, if it is one.

    Parameters
    ----------
    buffer : ndarray of uint8, shape (n_byte,)
        Captured bytes.
    dst_port : int
        UDP destination port.
    offset, end : int
        [bytes] The UDP payload, and the end of the captured bytes.

    Returns
    -------
    tuple of int
        ``(layer, value, offset)``.
    """
    if dst_port in _PORTS_VXLAN:
        return _step_vxlan(buffer, offset, end)
    if dst_port == _PORT_GENEVE:
        return _step_geneve(buffer, offset, end)
    if dst_port == _PORT_GTP_U:
        return _step_gtp_u(buffer, offset, end)
    return _plain_udp(offset)


@kernel
def _step_vxlan(buffer, offset, end):
    """RFC 7348 section 5; 0x88 is the group policy extension, whose group takes two of the reserved bytes."""
    if offset + 8 > end:
        return _plain_udp(offset)
    flags = buffer[offset]
    reserved_clear = buffer[offset + 1] == 0 and buffer[offset + 2] == 0 and buffer[offset + 3] == 0
    if buffer[offset + 7] == 0 and ((flags == 0x08 and reserved_clear) or flags == 0x88):
        return ETHERNET, 0, offset + 8
    return _plain_udp(offset)


@kernel
def _step_geneve(buffer, offset, end):
    """RFC 8926 section 3.4."""
    if offset + 8 > end:
        return _plain_udp(offset)
    first = np.int64(buffer[offset])
    # version 0, the six reserved bits of the second byte and the last byte clear
    if first >> 6 != 0 or buffer[offset + 1] & 0x3F or buffer[offset + 7] != 0:
        return _plain_udp(offset)
    ethertype = read_u16(buffer, offset + 2)
    if ethertype < 0x600:
        return _plain_udp(offset)
    return ETHERTYPE, ethertype, offset + 8 + 4 * (first & 0x3F)


@kernel
def _step_gtp_u(buffer, offset, end):
    """3GPP TS 29.281 section 5: version 1, message type 255, optional fields, extension headers."""
    if offset + 8 > end or buffer[offset] & 0xF0 != 0x30 or buffer[offset + 1] != 0xFF:
        return _plain_udp(offset)
    inner = offset + 8
    if buffer[offset] & 0x07:  # one flag brings the fields of all three
        inner += 4
        if inner > end:
            return _plain_udp(offset)
        if buffer[offset] & 0x04:
            for _ in range(_MAX_GTP_EXTENSIONS):
                if buffer[inner - 1] == 0:
                    break
                # An extension counts its length in words, ends with the type of the next one, and is never empty.
                if inner + 1 > end or buffer[inner] == 0 or inner + 4 * np.int64(buffer[inner]) > end:
                    return _plain_udp(offset)
                inner += 4 * np.int64(buffer[inner])
    if inner + 1 > end:
        return _plain_udp(offset)
    version = buffer[inner] >> 4
    if version == 4:
        return IPV4, 0, inner
    if version == 6:
        return IPV6, 0, inner
    return _plain_udp(offset)
