"""What first bytes are: TLS, FastCGI, uwsgi, SCGI, HTTP/2; and which last bytes only say goodbye.

Knows bytes; nothing of connections.
"""

import numpy as np

from pcapdiag.base.codes import Protocol
from pcapdiag.engine.compiler.policy import kernel
from pcapdiag.engine.http.kernels.http_head import equals_folded

_ENOUGH_BYTES = 8
"""[bytes] With so many of a message captured, a protocol that is known here would have been recognized."""

MOST_SCGI_DIGITS = 5
"""Of the length of a head: 100,000 bytes are more than any server takes."""

_SCGI_FIRST = np.frombuffer(b"CONTENT_LENGTH\0", dtype=np.uint8).copy()
_QUIT = np.frombuffer(b"quit", dtype=np.uint8).copy()
_EXIT = np.frombuffer(b"exit", dtype=np.uint8).copy()
_LOGOUT = np.frombuffer(b"logout", dtype=np.uint8).copy()
_MOST_GOODBYE_BYTES = 64


@kernel
def looks_like_tls(data, at, captured):
    """Return whether bytes begin with a TLS record header.

    Parameters
    ----------
    data : ndarray of uint8, shape (n_byte,)
    at, captured : int
        [bytes] Where, and how many bytes may be read.

    Returns
    -------
    bool
    """
    return captured >= 3 and 20 <= data[at] <= 24 and data[at + 1] == 3 and data[at + 2] <= 4


@kernel
def _looks_like_scgi(data, at, captured):
    """Return whether bytes begin with a length, a colon and the header that comes first."""
    n = 0
    while n < min(captured, MOST_SCGI_DIGITS) and ord("0") <= data[at + n] <= ord("9"):
        n += 1
    if n == 0 or captured < n + 1 + len(_SCGI_FIRST) or data[at + n] != ord(":") or data[at] == ord("0"):
        return False
    for k in range(len(_SCGI_FIRST)):
        if data[at + n + 1 + k] != _SCGI_FIRST[k]:
            return False
    return True


@kernel
def detect_protocol(data, at, captured, length):
    """Return the Protocol of an originator's first bytes that are not an HTTP/1 request.

    Parameters
    ----------
    data : ndarray of uint8, shape (n_byte,)
    at, captured, length : int
        [bytes] Where, how many bytes may be read, and how many there were.

    Returns
    -------
    int
        Protocol number; OPAQUE if nothing fits, UNKNOWN if too little was captured to say so.
    """
    if looks_like_tls(data, at, captured):
        return Protocol.TLS.value
    if captured >= 5 and data[at] == ord("P") and data[at + 1] == ord("R") and data[at + 2] == ord("I"):
        # RFC 9113 section 3.4: the connection preface begins with "PRI * HTTP/2.0".
        if data[at + 3] == ord(" ") and data[at + 4] == ord("*"):
            return Protocol.HTTP2.value
    if captured >= 8 and data[at] == 1 and data[at + 1] == 1 and data[at + 4] == 0 and data[at + 5] == 8:
        # FastCGI 1.0 section 8: version 1, FCGI_BEGIN_REQUEST with its 8 bytes of content.
        return Protocol.FASTCGI.value
    if captured >= 8 and data[at] == 1 and data[at + 1] == 9 and data[at + 2] + data[at + 3] + data[at + 7] == 0:
        # FCGI_GET_VALUES, of no request (section 4.1): a proxy may ask before its first one. The values are empty.
        return Protocol.FASTCGI.value
    if captured >= 7 and data[at] == 0 and data[at + 3] == 0 and int(data[at + 1]) + int(data[at + 2]) > 0:
        # uwsgi: modifier1 0 (WSGI), the size of the variables, modifier2 0, then a key in capitals of plausible length.
        size = int(data[at + 1]) + (int(data[at + 2]) << 8)
        if 0 < int(data[at + 4]) + (int(data[at + 5]) << 8) < min(size, 256) and 65 <= data[at + 6] <= 90:
            return Protocol.UWSGI.value
    if _looks_like_scgi(data, at, captured):
        return Protocol.SCGI.value
    return Protocol.OPAQUE.value if captured >= min(length, _ENOUGH_BYTES) else Protocol.UNKNOWN.value


@kernel
def is_goodbye(data, at, captured, length):
    """Return whether a whole message says goodbye in its protocol, so that no answer is owed.

    MySQL's COM_QUIT, PostgreSQL's Terminate, LDAP's unbindRequest (RFC 4511 section 4.3), MQTT's DISCONNECT, and lines
    with QUIT, EXIT or LOGOUT alone or behind a tag (SMTP, FTP, POP3, IMAP, Redis, memcached).

    Parameters
    ----------
    data : ndarray of uint8, shape (n_byte,)
    at, captured, length : int
        [bytes] Where, how many bytes may be read, and how long the message is.

    Returns
    -------
    bool
    """
    if captured < length or length < 2 or length > _MOST_GOODBYE_BYTES:
        return False
    if length == 2:
        return data[at] == 0xE0 and data[at + 1] == 0
    if length == 5 and data[at + 2] == 0 and data[at + 3] == 0 and data[at + 1] == 0:
        is_com_quit = data[at] == 1 and data[at + 4] == 1
        is_terminate = data[at] == ord("X") and data[at + 4] == 4
        return is_com_quit or is_terminate
    if data[at] == 0x30 and length <= 14 and data[at + length - 2] == 0x42 and data[at + length - 1] == 0:
        return True
    end = at + length
    while end > at and (data[end - 1] == ord("\n") or data[end - 1] == ord("\r")):
        end -= 1
    if end == at + length:
        return False
    start = end
    while start > at and data[start - 1] != ord(" ") and data[start - 1] != ord("\n"):
        start -= 1
    n = end - start
    if n == 4:
        return equals_folded(data, start, 4, _QUIT) or equals_folded(data, start, 4, _EXIT)
    return n == 6 and equals_folded(data, start, 6, _LOGOUT)
