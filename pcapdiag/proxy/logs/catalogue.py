"""What nginx's error messages mean: kind, step and errno of a message, without its context.

Knows the messages of nginx, OpenResty, APISIX, Kong and ingress-nginx; the sources are named where the list follows
them (nginx's ``src/http/ngx_http_upstream.c`` unless said otherwise). Knows nothing of lines and files.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from pcapdiag.proxy.logs.entries import LogKind


class Meaning(NamedTuple):
    """What a message says."""

    kind: LogKind
    action: str
    errno: int
    errno_name: str
    message: str
    names_upstream: bool
    """Whether the message alone tells that an upstream is concerned."""


# Linux; then BSD and macOS; then Windows; then illumos and Linux on MIPS. Where one number has two meanings, the one
# that sockets return counts.
ERRNO_NAMES: Final = {
    1: "EPERM",
    2: "ENOENT",
    4: "EINTR",
    5: "EIO",
    9: "EBADF",
    11: "EAGAIN",
    12: "ENOMEM",
    13: "EACCES",
    22: "EINVAL",
    23: "ENFILE",
    24: "EMFILE",
    28: "ENOSPC",
    32: "EPIPE",
    71: "EPROTO",
    98: "EADDRINUSE",
    99: "EADDRNOTAVAIL",
    100: "ENETDOWN",
    101: "ENETUNREACH",
    102: "ENETRESET",
    103: "ECONNABORTED",
    104: "ECONNRESET",
    105: "ENOBUFS",
    107: "ENOTCONN",
    110: "ETIMEDOUT",
    111: "ECONNREFUSED",
    112: "EHOSTDOWN",
    113: "EHOSTUNREACH",
    115: "EINPROGRESS",
    35: "EAGAIN",
    48: "EADDRINUSE",
    49: "EADDRNOTAVAIL",
    50: "ENETDOWN",
    51: "ENETUNREACH",
    52: "ENETRESET",
    53: "ECONNABORTED",
    54: "ECONNRESET",
    55: "ENOBUFS",
    57: "ENOTCONN",
    60: "ETIMEDOUT",
    61: "ECONNREFUSED",
    64: "EHOSTDOWN",
    65: "EHOSTUNREACH",
    10013: "EACCES",
    10048: "EADDRINUSE",
    10049: "EADDRNOTAVAIL",
    10050: "ENETDOWN",
    10051: "ENETUNREACH",
    10053: "ECONNABORTED",
    10054: "ECONNRESET",
    10055: "ENOBUFS",
    10057: "ENOTCONN",
    10060: "ETIMEDOUT",
    10061: "ECONNREFUSED",
    10064: "EHOSTDOWN",
    10065: "EHOSTUNREACH",
    125: "EADDRINUSE",
    126: "EADDRNOTAVAIL",
    127: "ENETDOWN",
    128: "ENETUNREACH",
    130: "ECONNABORTED",
    131: "ECONNRESET",
    132: "ENOBUFS",
    134: "ENOTCONN",
    145: "ETIMEDOUT",
    146: "ECONNREFUSED",
    147: "EHOSTDOWN",
    148: "EHOSTUNREACH",
}
"""Names of error numbers, the same on every platform."""

_K: Final = LogKind
_BUFFERED: Final = r"a client request body is buffered|an upstream response is buffered"

# The first that fits, from the beginning of the message, counts: so the special before the general.
_MESSAGES: Final[tuple[tuple[LogKind, str], ...]] = (
    # OpenResty, and balancers written in it: APISIX's balancer.lua, Kong's balancer, ingress-nginx's balancer.lua.
    (_K.BALANCER_NO_PEER, r"lua balancer: no peer set|.*\[lua\].*(?:failed to pick server|all upstream servers tried)"),
    (_K.BALANCER_NO_PEER, r".*\[lua\].*(?:no peer was returned|no healthy upstream|no available (?:peers|upstream))"),
    (_K.BALANCER_NO_PEER, r".*\[(?:lua|kong)\].*balancer.*(?:failure to get a peer|no (?:peers|endpoints)\b)"),
    (_K.BALANCER_NO_PEER, r".*\[(?:lua|kong)\].*failure to get a peer from the ring-balancer"),
    (_K.HEALTH_CHECK, r".*\[lua\].*(?:\[healthcheck\]|healthcheck\.lua).*(?:unhealthy|to 'false')"),
    (_K.BALANCER_RETRY_TIMEOUT, r".*\[lua\].*proxy retry timeout"),
    (
        _K.BALANCER_FAILED,
        r"failed to run balancer_by_lua|balancer_by_lua|.*\[lua\].*failed to set (?:server|current) peer",
    ),
    (_K.BALANCER_FAILED, r".*\[lua\].*(?:error while setting current upstream peer|failed to set more tries)"),
    (_K.LUA_SOCKET, r"lua (?:tcp|udp) socket |(?:attempt to|stream) lua (?:tcp|udp) socket "),
    (_K.LUA, r"(?:stream )?\[lua\]|lua |failed to (?:run|load) .*[lL]ua|.*_by_lua"),
    # The application's own words come before any pattern that they might imitate.
    (_K.UPSTREAM_STDERR, r"FastCGI sent in stderr"),
    (_K.BUFFERED, _BUFFERED),
    (_K.CLIENT_CLOSED, r".*client (?:prematurely )?closed connection, so upstream connection is closed too"),
    (_K.UPSTREAM_CLOSED, r"(?:kevent|epoll_wait)\(\) reported that upstream (?:prematurely )?closed connection"),
    (_K.NO_LIVE_UPSTREAMS, r"no live upstreams"),
    (_K.SERVER_DISABLED, r"upstream server temporarily disabled"),
    (_K.PREMATURE_CLOSE, r"upstream prematurely closed "),
    (_K.PREMATURE_RESPONSE, r"upstream prematurely sent response|upstream sent response before "),
    (_K.TIMED_OUT, r"upstream timed out"),
    (_K.TOO_BIG_HEADER, r"upstream sent too big (?:header|http2 frame|response)|upstream sent too large "),
    (_K.NO_VALID_HEADER, r"upstream sent no valid HTTP"),
    (_K.TLS_CERTIFICATE, r"upstream SSL certificate "),
    (_K.RESOLVE_FAILED, r"\S+ could not be resolved|no resolver defined to resolve|no port in upstream"),
    (
        _K.RESOLVE_FAILED,
        r"invalid (?:host|port|URL prefix|url) in upstream|invalid URL prefix in|upstream.*host not found",
    ),
    # ngx_http_grpc_module.c
    (_K.LOST_CONNECTION_DATA, r"no connection data found for keepalive http2 connection"),
    (_K.STREAM_REJECTED, r"upstream rejected request with error"),
    (_K.GOAWAY, r"upstream sent goaway"),
    # ngx_http_proxy_module.c
    (
        _K.INVALID_BODY,
        r"upstream sent (?:invalid chunked|more data than|data after final|unexpected data after|extra data)",
    ),
    (_K.INVALID_BODY, r"upstream sent response body larger|upstream sent invalid trailer"),
    # ngx_http_fastcgi_module.c, ngx_http_uwsgi_module.c, ngx_http_scgi_module.c, ngx_http_memcached_module.c
    (
        _K.PROTOCOL_ERROR,
        r"upstream sent (?:unexpected|unsupported) (?:FastCGI|\S+ protocol|record)|upstream sent unexpected",
    ),
    (
        _K.PROTOCOL_ERROR,
        r"upstream sent invalid (?:status|http2|protocol|frame|stream|window|hpack|proxy)|memcached sent ",
    ),
    (
        _K.PROTOCOL_ERROR,
        r"upstream (?:violated|exceeded|sent (?:http2|window|settings|headers? frame|truncated|frame|push))",
    ),
    (_K.INVALID_HEADER, r"upstream sent (?:invalid|duplicate|unknown|malformed|\"[^\"]+\" (?:and|header))"),
    (
        _K.INVALID_HEADER,
        r"upstream sent (?:unsupported|both|no|multiple) |ignore(?:d|ing) .*(?:header|response) from upstream",
    ),
    (_K.PROTOCOL_ERROR, r"upstream sent "),
    # ngx_event_openssl.c
    (_K.TLS_CLOSED, r"peer closed connection in SSL (?:handshake|shutdown)"),
    (_K.TLS_FAILED, r"SSL_\w+\(\) (?:failed|error)|SSL_\w+:|upstream.*\bSSL\b"),
    # src/os/unix: ngx_recv.c, ngx_readv_chain.c, ngx_send.c, ngx_writev_chain.c, ngx_linux_sendfile_chain.c
    (
        _K.RECV_FAILED,
        r"(?:WSAR|r)(?:ecv|eadv|ecvmsg)\(\) .*(?:failed|error)|(?:kevent|epoll_wait)\(\) reported (?:about|error)",
    ),
    (_K.SEND_FAILED, r"(?:WSASend|send|writev|sendfile|sendfile64|sendfilev|sendmsg)\(\) .*(?:failed|error|reported)"),
    # `connect() failed (104: ...)`: with the address if connect() itself failed, else from SO_ERROR.
    (_K.CONNECT_FAILED, r"(?:kevent\(\) reported that )?connect\(\) (?:to .* )?failed|bind\(.*\) failed"),
    # ngx_stream_proxy_module.c
    (_K.SESSION_TIMED_OUT, r"connection timed out|(?:upstream|client) disconnected.*timed out"),
    (_K.DISCONNECTED, r"(?:upstream|client|tcp|udp).* disconnected|(?:upstream|client) disconnected"),
    # src/core and src/os/unix/ngx_process_cycle.c
    (_K.CONNECTIONS_SHORT, r".*worker_connections (?:are|is) not enough|.*too many open files"),
    (
        _K.PROCESS,
        r"signal (?:process started|\d+)|(?:worker|cache \w+|unknown) process \d+|start (?:worker|cache)|reconfigur",
    ),
    (
        _K.PROCESS,
        r"gracefully shutting|exit(?:ing|$)?\b|reopening logs|using the \"|nginx/|openresty/|built by|OS: |getrlimit",
    ),
    (_K.PROCESS, r"shutting down|http file cache|sched_setaffinity|binding (?:memory|cpu)|changing binary"),
)
_PATTERNS: Final = tuple((kind, re.compile(pattern, re.DOTALL)) for kind, pattern in _MESSAGES)

_WAYS_OF_SOCKETS: Final = frozenset((_K.RECV_FAILED, _K.SEND_FAILED, _K.CONNECT_FAILED, _K.TLS_CLOSED, _K.TLS_FAILED))
_NOT_A_FAILURE: Final = frozenset(
    (
        _K.OTHER,
        _K.BUFFERED,
        _K.CONNECTIONS_SHORT,
        _K.DISCONNECTED,
        _K.LUA_SOCKET,
        _K.LUA,
        _K.PROCESS,
        _K.UPSTREAM_STDERR,
        _K.HEALTH_CHECK,
    )
)

_ACTION: Final = re.compile(r"[A-Za-z][\w ,/-]{2,80}")
_ERRNO: Final = re.compile(r"\((\d{1,5}): [^()]{0,200}(?:\([^()]{0,80}\)[^()]{0,80})?\)$")
_REMEMBERED: Final = 4096
_remembered: dict[str, Meaning] = {}


def meaning_of(text: str) -> Meaning:
    """Return what a message without its context means.

    Parameters
    ----------
    text : str
        From behind ``*N`` to before ``, client:``.

    Returns
    -------
    Meaning
        Kind OTHER for a message that is not in the catalogue.
    """
    meaning = _remembered.get(text)
    if meaning is None:
        meaning = _classify(text)
        # Messages repeat; those that do not must not fill the memory.
        if len(_remembered) >= _REMEMBERED:
            _remembered.clear()
        if len(text) < 512:
            _remembered[text] = meaning
    return meaning


def concerns_upstream(meaning: Meaning, upstream: str) -> bool:
    """Return whether an entry reports something that an upstream did not serve.

    Parameters
    ----------
    meaning : Meaning
        Of its message.
    upstream : str
        Its ``upstream:`` field, empty if it has none.

    Returns
    -------
    bool
        False for noise (a buffered body) and for what happened between nginx and its client.
    """
    if meaning.names_upstream:
        return True
    if not upstream or meaning.kind in _NOT_A_FAILURE - {_K.OTHER}:
        return False
    return "client" not in meaning.action and meaning.action != "keepalive"


def _classify(text: str) -> Meaning:
    head, action = text, ""
    at = text.rfind(" while ")
    if at >= 0 and _ACTION.fullmatch(text, at + 7):
        head, action = text[:at], text[at + 7 :]
    kind = next((kind for kind, pattern in _PATTERNS if pattern.match(head)), _K.OTHER)
    errno, name = -1, ""
    # The resolver's codes look like errno and are none; what applications and Lua write is their own.
    if kind not in {_K.RESOLVE_FAILED, _K.UPSTREAM_STDERR, _K.LUA} and (match := _ERRNO.search(head)):
        errno = int(match[1])
        name = ERRNO_NAMES.get(errno, "")
    if kind in _WAYS_OF_SOCKETS:
        names_upstream = "upstream" in action and "client" not in action
    elif kind == _K.OTHER:
        names_upstream = "upstream" in action
    else:
        names_upstream = kind not in _NOT_A_FAILURE
    return Meaning(kind, action, errno, name, head, names_upstream)
