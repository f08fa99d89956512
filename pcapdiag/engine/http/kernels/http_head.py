"""HTTP/1.x heads, line by line (RFC 9112 sections 2-6): start lines and the few fields that framing needs.

Knows bytes and one flow's state; nothing of exchanges. Lenient where RFC 9112 section 2.2 allows it: a bare LF ends a
line. A line longer than the scratch row keeps its beginning only.
"""

import numpy as np

from pcapdiag.base.codes import Method, Protocol
from pcapdiag.engine.compiler.policy import kernel
from pcapdiag.engine.http.kernels._scan import find_byte
from pcapdiag.engine.http.kernels.http_state import (
    HOST_AT,
    HOST_BYTES,
    LINE_BYTES,
    REQUEST_ID_AT,
    REQUEST_ID_BYTES,
    SERVER_BYTES,
    TARGET_AT,
    TARGET_BYTES,
)


def _name(text):
    return np.frombuffer(text, dtype=np.uint8).copy()


CONTENT_LENGTH = _name(b"content-length")
TRANSFER_ENCODING = _name(b"transfer-encoding")
CONNECTION = _name(b"connection")
HOST = _name(b"host")
REQUEST_ID = _name(b"x-request-id")
SERVER = _name(b"server")
KEEP_ALIVE = _name(b"keep-alive")
CLOSE = _name(b"close")
CHUNKED = _name(b"chunked")
UPGRADE = _name(b"upgrade")
H2C = _name(b"h2c")
TIMEOUT = _name(b"timeout=")
MAX = _name(b"max=")
HTTP_SLASH = _name(b"http/")

# Known methods in lower case, by their number.
_METHODS = [method for method in Method if method > Method.OTHER]
METHOD_NAMES = np.zeros((max(_METHODS) + 1, 8), dtype=np.uint8)
METHOD_LENGTHS = np.zeros(max(_METHODS) + 1, dtype=np.int64)
for _method in _METHODS:
    METHOD_LENGTHS[_method] = len(_method.name)
    METHOD_NAMES[_method, : len(_method.name)] = _name(_method.name.lower().encode())

SPACE = ord(" ")
TAB = ord("\t")
CR = ord("\r")
LF = ord("\n")
COLON = ord(":")

# RFC 9110 section 5.6.2: the characters of a token.
_TOKEN = np.zeros(256, dtype=np.uint8)
for _character in b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz":
    _TOKEN[_character] = 1
TOKEN = _TOKEN


@kernel
def copy_bytes(source, at, length, target, target_at):
    """Copy `length` bytes, which the caller has checked; return how many."""
    for k in range(length):
        target[target_at + k] = source[at + k]
    return length


@kernel
def equals_folded(buf, at, length, name):
    """Return whether `length` bytes at `at` equal `name` (lower case), ignoring ASCII case.

    Parameters
    ----------
    buf : ndarray of uint8, shape (n_byte,)
    at, length : int
        [bytes] Where; the caller guarantees that they lie inside.
    name : ndarray of uint8
        Lower-case name.

    Returns
    -------
    bool
    """
    if length != name.shape[0]:
        return False
    for k in range(length):
        c = int(buf[at + k])
        if ord("A") <= c <= ord("Z"):
            c += 32
        if c != name[k]:
            return False
    return True


@kernel
def _has_token(buf, at, length, name):
    """Whether a comma-separated list holds `name` as an element (RFC 9110 section 5.6.1), parameters ignored."""
    start = at
    stop = at + length
    while start < stop:
        end = start
        while end < stop and buf[end] != ord(","):
            end += 1
        a = start
        b = end
        while a < b and (buf[a] == SPACE or buf[a] == TAB):
            a += 1
        k = a
        while k < b and buf[k] != ord(";") and buf[k] != SPACE and buf[k] != TAB:
            k += 1
        if equals_folded(buf, a, k - a, name):
            return True
        start = end + 1
    return False


@kernel
def _parse_number(buf, at, length):
    """Decimal number at `at`, -1 if there is none, -2 if it does not fit (RFC 9110 section 8.6)."""
    value = 0
    n = 0
    for k in range(length):
        c = int(buf[at + k])
        if c < ord("0") or c > ord("9"):
            break
        if value > 900_000_000_000_000_000:
            return -2
        value = value * 10 + (c - ord("0"))
        n += 1
    return value if n > 0 else -1


@kernel
def _parse_parameter(buf, at, length, name):
    """Return the number behind `name` (as in ``timeout=5``), -1 if there is none."""
    n = name.shape[0]
    for k in range(length - n):
        if equals_folded(buf, at + k, n, name):
            value = _parse_number(buf, at + k + n, length - k - n)
            return value if 0 <= value <= 0x7FFFFFFF else -1
    return -1


@kernel
def method_code(buf, at, length):
    """Return the Method of a token.

    Parameters
    ----------
    buf : ndarray of uint8, shape (n_byte,)
    at, length : int
        [bytes] The token.

    Returns
    -------
    int
        Method number; OTHER for a token that is no known method.
    """
    for method in range(METHOD_LENGTHS.shape[0]):
        if length == METHOD_LENGTHS[method] and equals_folded(buf, at, length, METHOD_NAMES[method, :length]):
            return method
    return Method.OTHER.value


@kernel
def looks_like_request(buf, at, captured, protocol):
    """Return whether bytes begin like a request: a token, a space, and no doubt as far as one can see.

    Parameters
    ----------
    buf : ndarray of uint8, shape (n_byte,)
    at, captured : int
        [bytes] Where, and how many bytes may be read.
    protocol : int
        Protocol of the connection as far as known.

    Returns
    -------
    bool
        True for a whole line that ends in ``HTTP/1.x``; for one that is cut short, or on a connection known to be
        HTTP/1, if it begins with a known method.
    """
    k = 0
    while k < captured and k < 32 and TOKEN[buf[at + k]]:
        k += 1
    if k == 0:
        return False
    if k == captured and k < 8:
        return _is_method_prefix(buf, at, k)
    if k >= captured or buf[at + k] != SPACE:
        return False
    is_known = method_code(buf, at, k) != Method.OTHER.value
    if is_known and protocol == Protocol.HTTP1.value:
        return True
    limit = min(captured, LINE_BYTES)
    end = k + 1 + find_byte(buf, at + k + 1, limit - k - 1, LF)
    if end >= limit:
        return is_known
    if buf[at + end - 1] == CR:
        end -= 1
    if is_known and _holds_http(buf, at + k, end - k):
        return True  # a broken version is the server's affair; the method says whether content follows
    # RFC 9112 section 3: a request line ends in its version; memcached, SIP and IRC have verbs of the same look.
    # What begins inside a target, behind a hole, has none between: "list HTTP/1.1".
    return (
        end - 9 > k + 1
        and buf[at + end - 9] == SPACE
        and equals_folded(buf, at + end - 8, HTTP_SLASH.shape[0], HTTP_SLASH)
        and buf[at + end - 3] == ord("1")
        and buf[at + end - 2] == ord(".")
    )


@kernel
def _holds_http(buf, at, length):
    """Whether bytes hold ``HTTP/`` in any case."""
    n = HTTP_SLASH.shape[0]
    for k in range(length - n + 1):
        if equals_folded(buf, at + k, n, HTTP_SLASH):
            return True
    return False


@kernel
def _is_method_prefix(buf, at, length):
    for method in range(METHOD_LENGTHS.shape[0]):
        if length <= METHOD_LENGTHS[method] and equals_folded(buf, at, length, METHOD_NAMES[method, :length]):
            return True
    return False


@kernel
def looks_like_response(buf, at, captured):
    """Return whether bytes begin like a status line: ``HTTP/``, as far as captured.

    Parameters
    ----------
    buf : ndarray of uint8, shape (n_byte,)
    at, captured : int
        [bytes] Where, and how many bytes may be read.

    Returns
    -------
    bool
    """
    n = min(captured, 5)
    return n > 0 and equals_folded(buf, at, n, HTTP_SLASH[:n])


@kernel
def parse_request_line(buf, at, length, flow, scratch, scratch_at):
    """Take method, target and version from a request line (RFC 9112 section 3).

    Parameters
    ----------
    buf : ndarray of uint8, shape (n_byte,)
    at, length : int
        [bytes] The line without its end.
    flow : record of http_state.FLOW
        Gets `method`, `minor`, `target_len`.
    scratch : ndarray of uint8, shape (n_byte,)
        Gets the target at `scratch_at` + TARGET_AT.
    scratch_at : int
        [bytes] Where the flow's scratch row begins.

    Returns
    -------
    bool
        False if this is no request line.
    """
    k = 0
    while k < length and TOKEN[buf[at + k]]:
        k += 1
    if k == 0 or k >= length or buf[at + k] != SPACE:
        return False
    flow["method"] = method_code(buf, at, k)
    start = k + 1
    end = length
    flow["minor"] = 0
    if (
        length - start >= 9
        and equals_folded(buf, at + length - 8, HTTP_SLASH.shape[0], HTTP_SLASH)
        and buf[at + length - 9] == SPACE
    ):
        end = length - 9
        flow["minor"] = max(0, min(9, int(buf[at + length - 1]) - ord("0")))
        if buf[at + length - 3] != ord("1"):
            flow["minor"] = 0
    n = min(max(0, end - start), TARGET_BYTES)
    n = copy_bytes(buf, at + start, n, scratch, scratch_at + TARGET_AT)
    flow["target_len"] = n
    return True


@kernel
def parse_status_line(buf, at, length, flow):
    """Take version and status code from a status line (RFC 9112 section 4).

    Parameters
    ----------
    buf : ndarray of uint8, shape (n_byte,)
    at, length : int
        [bytes] The line without its end.
    flow : record of http_state.FLOW
        Gets `minor` and `status_code`.

    Returns
    -------
    bool
        False if this is no status line.
    """
    if length < 12 or not equals_folded(buf, at, HTTP_SLASH.shape[0], HTTP_SLASH):
        return False
    k = 5
    while k < length and buf[at + k] != SPACE:
        k += 1
    if k + 3 >= length:
        return False
    flow["minor"] = 1
    if buf[at + 5] == ord("1") and k >= 8 and buf[at + 7] == ord("0"):
        flow["minor"] = 0
    while k < length and buf[at + k] == SPACE:
        k += 1
    if k + 3 > length:
        return False
    code = 0
    for i in range(3):
        c = int(buf[at + k + i])
        if c < ord("0") or c > ord("9"):
            return False
        code = code * 10 + (c - ord("0"))
    flow["status_code"] = code
    return True


@kernel
def parse_field(buf, at, length, flow, scratch, scratch_at, is_request, conn, text, text_at):
    """Take in one field line (RFC 9112 section 5), if it is one that framing or joining needs.

    Parameters
    ----------
    buf : ndarray of uint8, shape (n_byte,)
    at, length : int
        [bytes] The line without its end.
    flow : record of http_state.FLOW
        Gets `content_length`, `chunked`, `close`, `keep_alive`, `h2c`, `host_len`, `request_id_len`.
    scratch : ndarray of uint8, shape (n_byte,)
        Gets Host and X-Request-Id of a request.
    scratch_at : int
        [bytes] Where the flow's scratch row begins; -1 for a response without one.
    is_request : bool
    conn : record of http_state.CONN
        Gets `keep_alive_s`, `keep_alive_max`.
    text : ndarray of uint8, shape (n_byte,)
        Gets the first Server field of the connection at `text_at`.
    text_at : int
        [bytes] Free place in `text`.

    Returns
    -------
    int
        [bytes] How many bytes of `text` were used.
    """
    # Most lines are of no interest, and their first letter says so; a name of interest has its colon in one place.
    first = int(buf[at]) | 0x20
    if first == ord("c"):
        k = 10 if length > 10 and buf[at + 10] == COLON else 14
    elif first == ord("t"):
        k = 17
    elif is_request:
        if first == ord("h"):
            k = 4
        elif first == ord("x"):
            k = 12
        else:
            return 0
    elif first == ord("s"):
        k = 6
    elif first == ord("k"):
        k = 10
    elif first == ord("u"):
        k = 7
    else:
        return 0
    if length <= k or buf[at + k] != COLON:
        return 0
    v = at + k + 1
    end = at + length
    while v < end and (buf[v] == SPACE or buf[v] == TAB):
        v += 1
    while end > v and (buf[end - 1] == SPACE or buf[end - 1] == TAB):
        end -= 1
    n = end - v
    if k == 14:
        if equals_folded(buf, at, k, CONTENT_LENGTH):
            flow["content_length"] = _parse_number(buf, v, n)
    elif k == 17:
        if equals_folded(buf, at, k, TRANSFER_ENCODING) and _has_token(buf, v, n, CHUNKED):
            flow["chunked"] = 1
    elif k == 10:
        if equals_folded(buf, at, k, CONNECTION):
            if _has_token(buf, v, n, CLOSE):
                flow["close"] = 1
            if _has_token(buf, v, n, KEEP_ALIVE):
                flow["keep_alive"] = 1
        elif not is_request and equals_folded(buf, at, k, KEEP_ALIVE):
            conn["keep_alive_s"] = _parse_parameter(buf, v, n, TIMEOUT)
            conn["keep_alive_max"] = _parse_parameter(buf, v, n, MAX)
    elif is_request and k == 4:
        if scratch_at >= 0 and equals_folded(buf, at, k, HOST):
            n = copy_bytes(buf, v, min(n, HOST_BYTES), scratch, scratch_at + HOST_AT)
            flow["host_len"] = n
    elif is_request and k == 12:
        if scratch_at >= 0 and equals_folded(buf, at, k, REQUEST_ID):
            n = copy_bytes(buf, v, min(n, REQUEST_ID_BYTES), scratch, scratch_at + REQUEST_ID_AT)
            flow["request_id_len"] = n
    elif k == 7:
        if equals_folded(buf, at, k, UPGRADE) and _has_token(buf, v, n, H2C):
            flow["h2c"] = 1
    elif not is_request and k == 6 and conn["server_offset"] == -1:
        if equals_folded(buf, at, k, SERVER):
            n = copy_bytes(buf, v, min(n, SERVER_BYTES), text, text_at)
            conn["server_len"] = n
            return n
    return 0


@kernel
def keep_line_part(buf, at, length, flow, scratch, scratch_at):
    """Append bytes of an incomplete line to the flow's scratch row; what does not fit is dropped.

    Parameters
    ----------
    buf : ndarray of uint8, shape (n_byte,)
    at, length : int
        [bytes] The part.
    flow : record of http_state.FLOW
        `line_len` grows.
    scratch : ndarray of uint8, shape (n_byte,)
    scratch_at : int
        [bytes] Where the flow's scratch row begins.
    """
    have = int(flow["line_len"])
    n = min(length, LINE_BYTES - have)
    flow["line_len"] = have + copy_bytes(buf, at, max(0, n), scratch, scratch_at + have)
