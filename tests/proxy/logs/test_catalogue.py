"""What messages mean: every one of the catalogue, as its source writes it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.proxy.logs.catalogue import concerns_upstream, meaning_of
from pcapdiag.proxy.logs.entries import LogKind as K
from pcapdiag.proxy.logs.foreign import FOREIGN_LOGS

HEADER = "reading response header from upstream"
CONNECT = "connecting to upstream"
CASES = [
    # message, action, kind, errno name, whether it concerns an upstream
    ("upstream prematurely closed connection", HEADER, K.PREMATURE_CLOSE, "", True),
    ("upstream prematurely closed connection", "reading upstream", K.PREMATURE_CLOSE, "", True),
    ("recv() failed (104: Connection reset by peer)", HEADER, K.RECV_FAILED, "ECONNRESET", True),
    ("recv() failed (54: Connection reset by peer)", HEADER, K.RECV_FAILED, "ECONNRESET", True),
    ("WSARecv() failed (10054: closed by the remote host)", HEADER, K.RECV_FAILED, "ECONNRESET", True),
    ("readv() failed (104: Connection reset by peer)", "reading upstream", K.RECV_FAILED, "ECONNRESET", True),
    ("connect() failed (104: Connection reset by peer)", CONNECT, K.CONNECT_FAILED, "ECONNRESET", True),
    ("writev() failed (32: Broken pipe)", "sending request to upstream", K.SEND_FAILED, "EPIPE", True),
    ("send() failed (104: Connection reset by peer)", "sending request to upstream", K.SEND_FAILED, "ECONNRESET", True),
    ("sendfile() failed (32: Broken pipe)", "sending request to upstream", K.SEND_FAILED, "EPIPE", True),
    ("connect() failed (111: Connection refused)", CONNECT, K.CONNECT_FAILED, "ECONNREFUSED", True),
    ("connect() failed (61: Connection refused)", CONNECT, K.CONNECT_FAILED, "ECONNREFUSED", True),
    ("connect() failed (113: Host is unreachable)", CONNECT, K.CONNECT_FAILED, "EHOSTUNREACH", True),
    ("connect() failed (101: Network is unreachable)", CONNECT, K.CONNECT_FAILED, "ENETUNREACH", True),
    ("connect() to unix:/run/a.sock failed (2: No such file or directory)", CONNECT, K.CONNECT_FAILED, "ENOENT", True),
    ("connect() to 10.0.0.1:80 failed (13: Permission denied)", CONNECT, K.CONNECT_FAILED, "EACCES", True),
    ("connect() to 1.2.3.4:80 failed (99: Address not available)", CONNECT, K.CONNECT_FAILED, "EADDRNOTAVAIL", True),
    ("upstream timed out (110: Connection timed out)", CONNECT, K.TIMED_OUT, "ETIMEDOUT", True),
    ("upstream timed out (110: Operation timed out)", "SSL handshaking to upstream", K.TIMED_OUT, "ETIMEDOUT", True),
    ("upstream timed out (60: Operation timed out)", HEADER, K.TIMED_OUT, "ETIMEDOUT", True),
    ("recv() failed (110: Connection timed out)", HEADER, K.RECV_FAILED, "ETIMEDOUT", True),
    ("no live upstreams", CONNECT, K.NO_LIVE_UPSTREAMS, "", True),
    ("upstream server temporarily disabled", HEADER, K.SERVER_DISABLED, "", True),
    ("upstream sent too big header", HEADER, K.TOO_BIG_HEADER, "", True),
    ('upstream sent invalid header: "Bad\\x0d..."', HEADER, K.INVALID_HEADER, "", True),
    ("upstream sent invalid header", HEADER, K.INVALID_HEADER, "", True),
    ("upstream sent no valid HTTP/1.0 header", HEADER, K.NO_VALID_HEADER, "", True),
    ('upstream sent duplicate header line: "A: b", previous value: "A: c"', HEADER, K.INVALID_HEADER, "", True),
    (
        'upstream sent "Content-Length" and "Transfer-Encoding" headers at the same time',
        HEADER,
        K.INVALID_HEADER,
        "",
        True,
    ),
    ('upstream sent invalid "Content-Length" header: "x"', HEADER, K.INVALID_HEADER, "", True),
    ('upstream sent unknown "Transfer-Encoding": "x"', HEADER, K.INVALID_HEADER, "", True),
    ("upstream sent invalid chunked response", "reading upstream", K.INVALID_BODY, "", True),
    ("upstream sent data after final chunk", "reading upstream", K.INVALID_BODY, "", True),
    ('upstream sent more data than specified in "Content-Length" header', "reading upstream", K.INVALID_BODY, "", True),
    ("upstream prematurely sent response", HEADER, K.PREMATURE_RESPONSE, "", True),
    (
        *("peer closed connection in SSL handshake (104: Connection reset by peer)", "SSL handshaking to upstream"),
        *(K.TLS_CLOSED, "ECONNRESET", True),
    ),
    ("peer closed connection in SSL handshake", "SSL handshaking", K.TLS_CLOSED, "", False),
    ("SSL_do_handshake() failed (SSL: error:0A00010B:SSL)", "SSL handshaking to upstream", K.TLS_FAILED, "", True),
    ("SSL_read() failed (SSL: error:0A000126:SSL)", HEADER, K.TLS_FAILED, "", True),
    ("SSL_do_handshake() failed (SSL: error:0A00006C:SSL)", "SSL handshaking", K.TLS_FAILED, "", False),
    ("upstream SSL certificate verify error: (20:unable)", "SSL handshaking to upstream", K.TLS_CERTIFICATE, "", True),
    ('upstream SSL certificate does not match "a"', "SSL handshaking to upstream", K.TLS_CERTIFICATE, "", True),
    ("be.example.test could not be resolved (3: Host not found)", "", K.RESOLVE_FAILED, "", True),
    ("no resolver defined to resolve be.example.test", "", K.RESOLVE_FAILED, "", True),
    ('no port in upstream "be"', "", K.RESOLVE_FAILED, "", True),
    ('invalid host in upstream ":80"', "", K.RESOLVE_FAILED, "", True),
    (
        *(
            "epoll_wait() reported that client prematurely closed connection, so upstream connection is closed too",
            HEADER,
        ),
        *(K.CLIENT_CLOSED, "", True),
    ),
    ("client prematurely closed connection, so upstream connection is closed too", HEADER, K.CLIENT_CLOSED, "", True),
    ("a client request body is buffered to a temporary file /tmp/1", "", K.BUFFERED, "", False),
    ("an upstream response is buffered to a temporary file /tmp/1", "reading upstream", K.BUFFERED, "", False),
    ("512 worker_connections are not enough, reusing connections", "", K.CONNECTIONS_SHORT, "", False),
    ("512 worker_connections are not enough", CONNECT, K.CONNECTIONS_SHORT, "", False),
    ("kevent() reported that upstream closed connection", "reading upstream", K.UPSTREAM_CLOSED, "", True),
    ("upstream prematurely closed FastCGI stdout", HEADER, K.PREMATURE_CLOSE, "", True),
    ("upstream prematurely closed FastCGI request", "reading upstream", K.PREMATURE_CLOSE, "", True),
    ("upstream sent unexpected FastCGI record: 3", HEADER, K.PROTOCOL_ERROR, "", True),
    ('FastCGI sent in stderr: "Primary script unknown"', HEADER, K.UPSTREAM_STDERR, "", False),
    ('upstream sent invalid status "x"', HEADER, K.PROTOCOL_ERROR, "", True),
    ("upstream rejected request with error 7", HEADER, K.STREAM_REJECTED, "", True),
    ("upstream sent goaway with error 0", HEADER, K.GOAWAY, "", True),
    ("upstream prematurely closed stream", HEADER, K.PREMATURE_CLOSE, "", True),
    (
        "no connection data found for keepalive http2 connection",
        "sending request to upstream",
        K.LOST_CONNECTION_DATA,
        "",
        True,
    ),
    ("upstream sent too large http2 frame: 99999", HEADER, K.TOO_BIG_HEADER, "", True),
    ("upstream violated connection flow control: 1 of 0", "reading upstream", K.PROTOCOL_ERROR, "", True),
    ('memcached sent invalid response: "x"', HEADER, K.PROTOCOL_ERROR, "", True),
    ("upstream disconnected, bytes from/to client:0/0, bytes from/to upstream:0/0", "", K.DISCONNECTED, "", False),
    ("connection timed out (110: Connection timed out)", "proxying connection", K.SESSION_TIMED_OUT, "ETIMEDOUT", True),
    (
        "[lua] balancer.lua:365: run(): failed to pick server: failed to find valid server, all upstream servers tried",
        *(CONNECT, K.BALANCER_NO_PEER, "", True),
    ),
    (
        "[lua] balancer.lua:300: pick_server(): proxy retry timeout, retry count: 1",
        CONNECT,
        K.BALANCER_RETRY_TIMEOUT,
        "",
        True,
    ),
    ("[lua] balancer.lua:400: run(): failed to set server peer [a:1]: x", CONNECT, K.BALANCER_FAILED, "", True),
    ("[lua] balancer.lua:348: balance(): no peer was returned, balancer: ewma", CONNECT, K.BALANCER_NO_PEER, "", True),
    ("[kong] init.lua:9 failure to get a peer from the ring-balancer", CONNECT, K.BALANCER_NO_PEER, "", True),
    (
        "[lua] healthcheck.lua:1150: log(): [healthcheck] (up) unhealthy TCP increment (2/2) for 'foo(10.1.1.1:80)'",
        *("logging request", K.HEALTH_CHECK, "", False),
    ),
    ("failed to run balancer_by_lua*: a.lua:1: boom", CONNECT, K.BALANCER_FAILED, "", True),
    ("lua balancer: no peer set", CONNECT, K.BALANCER_NO_PEER, "", True),
    ("lua tcp socket connect timed out, when connecting to 10.0.0.1:6379", "", K.LUA_SOCKET, "", False),
    ("[lua] a.lua:1: f(): hello", "", K.LUA, "", False),
    ("lua entry thread aborted: runtime error: a.lua:1: x", "", K.LUA, "", False),
    ("signal process started", "", K.PROCESS, "", False),
    ("worker process 31 exited on signal 11", "", K.PROCESS, "", False),
    ("recv() failed (103: Software caused connection abort)", "keepalive", K.RECV_FAILED, "ECONNABORTED", False),
    ("send() failed (104: Connection reset by peer)", "sending to client", K.SEND_FAILED, "ECONNRESET", False),
    ('open() "/a" failed (2: No such file or directory)', "", K.OTHER, "ENOENT", False),
]


@pytest.mark.parametrize(("message", "action", "kind", "name", "concerned"), CASES)
def test_a_message_of_the_catalogue_is_classified(message, action, kind, name, concerned):
    meaning = meaning_of(f"{message} while {action}" if action else message)
    assert (meaning.kind, meaning.action, meaning.errno_name) == (kind, action, name)
    assert meaning.message == message
    assert concerns_upstream(meaning, "") == concerned


def test_every_kind_has_a_message():
    """What only other proxies say has a sample in the table of each: tests/proxy/logs/test_foreign.py."""
    assert {kind for _, _, kind, _, _ in CASES} == {kind for kind in K if kind < K.BROKEN}
    of_others = {kind.kind for known in FOREIGN_LOGS for kind in known.kinds}
    assert {kind for kind in K if kind >= K.BROKEN} <= of_others


def test_an_unknown_message_about_an_upstream_concerns_it():
    assert concerns_upstream(meaning_of("a novelty"), "http://10.0.0.1:80/")
    assert concerns_upstream(meaning_of("a novelty while reading upstream"), "")
    assert not concerns_upstream(meaning_of("a novelty while sending to client"), "http://10.0.0.1:80/")
    assert not concerns_upstream(meaning_of("a novelty"), "")


@given(st.text(max_size=100))
def test_any_text_has_a_meaning_and_keeps_its_words(text):
    meaning = meaning_of(text)
    assert text == (f"{meaning.message} while {meaning.action}" if meaning.action else meaning.message)
