"""The error log of Apache httpd: what mod_proxy and its protocols say of upstreams, by the codes of the messages.

Knows the messages of modules/proxy (mod_proxy.c, proxy_util.c, mod_proxy_http.c, mod_proxy_fcgi.c, mod_proxy_ajp.c,
mod_proxy_balancer.c) and of mod_ssl as a client, of 2.4. A failure is told twice, by the try and by the request that
was given up for it; only one of the two names the upstream. Linear in the length of a line.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from typing import Final

from pcapdiag.base.units import NS_PER_S
from pcapdiag.proxy.logs.catalogue import ERRNO_NAMES
from pcapdiag.proxy.logs.entries import BODY, CONNECTING, HANDSHAKING, HEADER, SENDING, LogKind
from pcapdiag.proxy.logs.foreign_format import NOTICE, ForeignFormat, MessageKind, Record, failed_try
from pcapdiag.proxy.logs.times import parse_time

_HEAD: Final = re.compile(
    r"\[[A-Z][a-z]{2} (?P<month>[A-Z][a-z]{2}) (?P<day>[ \d]\d) (?P<clock>\d\d:\d\d:\d\d)(?:\.(?P<fraction>\d{1,6}))?"
    r" (?P<year>\d{4})\] \[(?:(?P<module>\w{0,64}):)?(?P<level>[a-z]{1,8}\d?)\] ",
    re.ASCII,
)
_PROCESS: Final = re.compile(r"\[pid (\d{1,10})(?::tid (\d{1,20}))?\] ", re.ASCII)
_SOURCE: Final = re.compile(r"[\w./-]{1,80}\.c\(\d{1,6}\): ", re.ASCII)
_STATUS: Final = re.compile(r"\((-?\d{1,7})\)[^:\[]{0,200}: (?=\[|AH)", re.ASCII)
_CLIENT: Final = re.compile(r"\[(?:client|remote) ([^\s\]]{1,100})\] ")
_CODE: Final = re.compile(r"(AH\d{5}): ", re.ASCII)
_REFERER: Final = ", referer: "
_PEER: Final = re.compile(
    r"(?:remote server|attempt to connect to|body failed to|support for|response failed from|dialog to) ([^\s,]{1,260})"
)
_GIVEN_UP: Final = re.compile(r" returned by (/\S{0,8192})")
_UNRESOLVED: Final = "DNS lookup failure"
_UNIX: Final = "httpd-UDS"
"""How mod_proxy names the server behind a unix socket."""
_TIMED_OUT: Final = frozenset({70007, 110})
"""APR_TIMEUP and ETIMEDOUT."""
_EOF: Final = 70014


_AT: Final = "[Tue Dec 01 03:51:13.349124 2026]"
_OF: Final = "[pid 6229:tid 6244]"
_BY: Final = "[client 192.0.2.2:34462]"


def _line(module: str, status: str, code: str, text: str, by: str = f"{_BY} ") -> str:
    return f"{_AT} [{module}:error] {_OF} {status}{by}{code}: {text}"


_K: Final = LogKind
_GENERAL: Final = "(20014)Internal error (specific information not available): "
_RESET: Final = "(104)Connection reset by peer: "
_REFUSED: Final = "(111)Connection refused: "
KINDS: Final = (
    MessageKind(
        *("AH01102", _K.BROKEN, HEADER, "no status line could be read from the upstream"),
        _line("proxy_http", _GENERAL, "AH01102", "error reading status line from remote server 10.1.1.1:80"),
    ),
    MessageKind(
        *("AH01110", _K.BROKEN, BODY, "the response broke off"),
        _line("proxy_http", _RESET, "AH01110", "error reading response"),
    ),
    MessageKind(
        *("AH00957", _K.CONNECT_FAILED, CONNECTING, "a connection attempt failed"),
        _line(*("proxy", _REFUSED, "AH00957"), "http: attempt to connect to 10.1.1.1:80 (10.1.1.1:80) failed", by=""),
    ),
    MessageKind(
        *("AH00959", _K.GIVEN_UP, CONNECTING, "the upstream is put out for a while"),
        _line("proxy", "", "AH00959", "ap_proxy_connect_backend disabling worker for (10.1.1.1:80) for 60s", by=""),
    ),
    MessageKind(
        *("AH01114", _K.GIVEN_UP, CONNECTING, "no connection to the upstream came about"),
        _line("proxy_http", "", "AH01114", "HTTP: failed to make connection to backend: 10.1.1.1"),
    ),
    MessageKind(
        *("AH01079", _K.GIVEN_UP, CONNECTING, "no connection to the FastCGI upstream came about"),
        _line("proxy_fcgi", "", "AH01079", "failed to make connection to backend: 10.1.1.1"),
    ),
    MessageKind(
        *("AH00896", _K.GIVEN_UP, CONNECTING, "no connection to the AJP upstream came about"),
        _line("proxy_ajp", "", "AH00896", "failed to make connection to backend: 10.1.1.1"),
    ),
    MessageKind(
        *("AH00898", _K.GIVEN_UP, "", "the request was given up"),
        _line("proxy", "", "AH00898", "Error reading from remote server returned by /api"),
    ),
    MessageKind(
        *("AH01103", _K.GIVEN_UP, HEADER, "the upstream did not answer in time"),
        _line("proxy_http", "", "AH01103", "read timeout"),
    ),
    MessageKind(
        # Of the same request as the AH01084 before it, by who had asked for that.
        *("AH01097", _K.GIVEN_UP, SENDING, "the request was given up while it was passed on"),
        _line(
            *("proxy_http", "(32)Broken pipe: ", "AH01097"),
            "pass request body failed to 10.1.1.1:80 (10.1.1.1) from 192.0.2.2 ()",
        ),
    ),
    MessageKind(
        *("AH01084", _K.BROKEN, SENDING, "passing the request on failed"),
        _line("proxy_http", _RESET, "AH01084", "pass request body failed to 10.1.1.1:80 (10.1.1.1)"),
    ),
    *(
        MessageKind(
            *(code, _K.CLIENT_CLOSED, SENDING, "the client did not send its whole request"),
            _line(
                "proxy_http", _RESET, code, f"{verb} request body failed to 10.1.1.1:80 (10.1.1.1) from 192.0.2.2 ()"
            ),
        )
        for code, verb in (("AH02608", "read"), ("AH02609", "read"), ("AH02610", "read"), ("AH01095", "prefetch"))
    ),
    MessageKind(
        *("AH01106", _K.NO_VALID_HEADER, HEADER, "the response does not begin as HTTP does"),
        _line("proxy_http", "", "AH01106", "bad HTTP/1.1 header returned by /api (GET)"),
    ),
    MessageKind(
        *("AH00961", _K.TLS_FAILED, HANDSHAKING, "TLS to the upstream could not be begun"),
        _line("proxy", "", "AH00961", "https: failed to enable ssl support for 10.1.1.1:443 (10.1.1.1)", by=""),
    ),
    MessageKind(
        *("AH02003", _K.TLS_FAILED, HANDSHAKING, "the TLS handshake with the upstream failed"),
        _line("ssl", "", "AH02003", "SSL Proxy connect failed", by="[remote 10.1.1.1:443] "),
    ),
    MessageKind(
        *("AH01067", _K.BROKEN, HEADER, "no FastCGI header could be read from the upstream"),
        _line("proxy_fcgi", _RESET, "AH01067", "Failed to read FastCGI header"),
    ),
    MessageKind(
        *("AH01075", _K.BROKEN, HEADER, "the FastCGI request was not served"),
        _line("proxy_fcgi", _RESET, "AH01075", "Error dispatching request to : (reading response headers)"),
    ),
    MessageKind(
        *("AH00992", _K.BROKEN, HEADER, "no AJP header could be read from the upstream"),
        _line("proxy_ajp", _RESET, "AH00992", "ajp_ilink_receive() can't receive header"),
    ),
    MessageKind(
        *("AH00878", _K.BROKEN, HEADER, "no AJP answer could be read from the upstream"),
        _line("proxy_ajp", _RESET, "AH00878", "read response failed from 10.1.1.1:8009 (10.1.1.1)"),
    ),
    MessageKind(
        *("AH00893", _K.GIVEN_UP, "", "the AJP request was given up"),
        _line("proxy_ajp", _RESET, "AH00893", "dialog to 10.1.1.1:8009 (10.1.1.1) failed"),
    ),
    MessageKind(
        *("AH00940", _K.NO_SERVER, "", "the upstream is put out, so that it was not tried"),
        _line("proxy", "", "AH00940", "HTTP: disabled connection for (10.1.1.1:80)", by=""),
    ),
    *(
        MessageKind(
            *(code, _K.NO_SERVER, "", "every server of the balancer is put out, so that none was tried"),
            _line("proxy_balancer", "", code, f"balancer://b: All workers are in error state{route}"),
        )
        for code, route in (("AH01167", " for route (s1)"), ("AH01170", ""))
    ),
)
_BY_CODE: Final = {kind.sign: kind for kind in KINDS}


def _is_record(text: str) -> bool:
    return _HEAD.match(text) is not None


def _read(path: str, line: int, text: str) -> Record | None:
    head = _HEAD.match(text)
    if head is None:
        return None
    at, pid, tid, status, client = head.end(), -1, -1, 0, ""
    if process := _PROCESS.match(text, at):
        pid, tid, at = int(process[1]), int(process[2] or -1), process.end()
    if source := _SOURCE.match(text, at):
        at = source.end()
    # The status stands before the client's address, or behind it (httpd's ap_log formats differ in that).
    for _ in range(2):
        if found := _STATUS.match(text, at):
            status, at = int(found[1]), found.end()
        if found := _CLIENT.match(text, at):
            client, at = found[1], found.end()
    code = _CODE.match(text, at)
    kind = _BY_CODE.get(code[1]) if code is not None else None
    stamp_ns = _stamp_ns(head["year"], head["month"], head["day"], head["clock"])
    if kind is None or stamp_ns < 0:
        return NOTICE if stamp_ns >= 0 else None
    fraction = head["fraction"] or ""
    stamp_ns += int(fraction.ljust(9, "0")) if fraction else 0
    message = text[at:].partition(_REFERER)[0]
    # "remote server returned by" names none: of a request that was given up, the try before it names the upstream.
    is_try = kind.kind is not LogKind.GIVEN_UP
    peer = client if kind.sign == "AH02003" else _peer_of(message) if is_try else ""
    entry = failed_try(path, line, stamp_ns, 10 ** (9 - len(fraction)), kind, peer, f"{message} ({kind.meaning})")
    given_up = _GIVEN_UP.search(message)
    target = given_up[1] if given_up is not None else ""
    kind_of_entry, errno = _by_status(kind, status, message)
    entry = replace(
        entry,
        level=head["level"],
        pid=pid,
        tid=tid,
        kind=kind_of_entry,
        errno=errno,
        errno_name=ERRNO_NAMES.get(errno, ""),
        client="" if kind.sign == "AH02003" else client,
        request=target,
        target=target,
    )
    return Record(entry, None)


def _by_status(kind: MessageKind, status: int, message: str) -> tuple[LogKind, int]:
    """Return what a message means together with the status before it, and that as an error number; -1 for none."""
    errno = status if 0 < status < 1000 else -1
    if kind.sign == "AH00898" and message.find(_UNRESOLVED) >= 0:
        return LogKind.RESOLVE_FAILED, -1
    if kind.kind in {LogKind.BROKEN, LogKind.CONNECT_FAILED} and status in _TIMED_OUT:
        return LogKind.TIMED_OUT, errno
    if kind.kind is LogKind.BROKEN and status == _EOF:
        return LogKind.PREMATURE_CLOSE, -1
    if kind.kind is LogKind.BROKEN and ERRNO_NAMES.get(errno) in {"ECONNRESET", "EPIPE"}:
        return (LogKind.SEND_FAILED if kind.action == SENDING else LogKind.RECV_FAILED), errno
    return kind.kind, errno


def _peer_of(message: str) -> str:
    found = _PEER.search(message)
    if found is None:
        return ""
    return "unix:" if found[1].startswith(_UNIX) else found[1]


@lru_cache(maxsize=64)
def _stamp_ns(year: str, month: str, day: str, clock: str) -> int:
    time = parse_time(f"{day.replace(' ', '0')}/{month}/{year}:{clock}")
    return time[0] // NS_PER_S * NS_PER_S if time is not None else -1


HTTPD_LOG: Final = ForeignFormat(
    proxy="Apache httpd",
    log="ErrorLog, as ErrorLogFormat is by default",
    is_record=_is_record,
    read=_read,
    kinds=KINDS,
    has_accesses=False,
    has_zone=False,
)
