"""The stable text identifier of a connection: Community ID v1 and the start time.

Community ID (corelight/community-id-spec) is what Zeek, Suricata, Arkime and Wireshark print for the same endpoints,
so a report can be joined with theirs; the start time tells connections on a reused port apart.
"""

import base64
import hashlib

_MAPPED = 0xFFFF


def _address_bytes(hi: int, lo: int) -> bytes:
    if hi == 0 and lo >> 32 == _MAPPED:
        return (lo & 0xFFFFFFFF).to_bytes(4, "big")
    return hi.to_bytes(8, "big") + lo.to_bytes(8, "big")


def community_id(orig: tuple[int, int, int], resp: tuple[int, int, int]) -> str:
    """Return the Community ID v1 (seed 0) of a TCP connection.

    Parameters
    ----------
    orig, resp : tuple of (int, int, int)
        Address halves and port; IPv4 mapped as ``::ffff:a.b.c.d``.

    Returns
    -------
    str
        ``1:`` and 28 characters of base64; the same for either direction.
    """
    a = (_address_bytes(orig[0], orig[1]), orig[2])
    b = (_address_bytes(resp[0], resp[1]), resp[2])
    if b < a:
        a, b = b, a
    seed_and_addresses = b"\x00\x00" + a[0] + b[0]
    data = seed_and_addresses + b"\x06\x00" + a[1].to_bytes(2, "big") + b[1].to_bytes(2, "big")
    digest = hashlib.sha1(data, usedforsecurity=False).digest()
    return "1:" + base64.b64encode(digest).decode("ascii")


def connection_uid(orig: tuple[int, int, int], resp: tuple[int, int, int], first_ts_ns: int) -> str:
    """Return the identifier of one connection.

    Parameters
    ----------
    orig, resp : tuple of (int, int, int)
        Address halves and port.
    first_ts_ns : int
        [ns] First segment.

    Returns
    -------
    str
        Community ID, ``@`` and the start time in ns.
    """
    return f"{community_id(orig, resp)}@{first_ts_ns}"
