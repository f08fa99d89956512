"""The transport: TLS is verified, answers are bounded, waits too, and nothing is asked that was not meant."""

import socket
import ssl
import threading
from contextlib import suppress

import pytest
import requests
import trustme

from pcapdiag.base.errors import AttachError
from pcapdiag.ticket.attach import transport
from pcapdiag.ticket.attach.transport import (
    RefusedError,
    Transport,
    TransportPolicy,
    UnclearError,
    origin_of,
    repeat,
    settle,
)
from tests.ticket.attach.servers import TOKEN, Server, Webhook, serving
from tests.waiting import HANG_S

pytestmark = pytest.mark.compiled_only

BUSY = UnclearError("busy")


def session_for(url, *, secrets=()):
    session = requests.Session()
    Transport(TransportPolicy(frozenset({origin_of(url)}), "tickets.example", "PCAPDIAG_TOKEN", secrets)).mount(session)
    return session


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def hook_tls(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with serving(Webhook(), tls=context) as server:
        yield server


def test_a_certificate_of_nobody_gets_no_request(hook_tls, operator):
    with pytest.raises(AttachError, match="does not trust the certificate"):
        operator.attach(hook_tls.url)
    assert hook_tls.requests == []


def test_an_authority_of_ones_own_is_named_in_the_environment(hook_tls, operator, authority, tmp_path, monkeypatch):
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    operator.attach(hook_tls.url)
    assert len(hook_tls.requests) == 1


def test_a_certificate_of_another_host_gets_no_request(operator, authority, tmp_path, monkeypatch):
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("tickets.example").configure_cert(context)
    with serving(Webhook(), tls=context) as server, pytest.raises(AttachError, match="does not trust the certificate"):
        operator.attach(server.url)
    assert server.requests == []


def test_verification_cannot_be_switched_off(hook_tls):
    with session_for(hook_tls.url) as session, pytest.raises(AttachError, match="does not trust the certificate"):
        session.post(hook_tls.url, verify=False)


def test_no_other_origin_is_asked():
    with serving(Server()) as meant, serving(Server()) as other, session_for(meant.url) as session:
        with pytest.raises(AttachError, match="nothing was sent there"):
            session.get(other.url)
        with pytest.raises(AttachError, match="nothing was sent there"):
            session.get(meant.url.replace("127.0.0.1", "localhost"))
        with pytest.raises(AttachError, match="nothing was sent there"):
            session.get(meant.url.replace("http:", "https:"))
    assert (meant.requests, other.requests) == ([], [])


def test_a_server_that_says_nothing_is_not_waited_for_long(monkeypatch):
    monkeypatch.setattr(transport, "TIMEOUT_S", (1.0, 0.2))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with session_for(url) as session, pytest.raises(UnclearError, match="did not answer in time"):
            session.get(url)


def test_a_server_that_is_not_there_is_said_not_to_be():
    with socket.create_server(("127.0.0.1", 0)) as gone:
        url = f"http://127.0.0.1:{gone.getsockname()[1]}"
    with session_for(url) as session, pytest.raises(UnclearError, match="could not be reached"):
        session.get(url)


def test_an_answer_that_drips_is_cut_off(monkeypatch):
    monkeypatch.setattr(transport, "MAX_ANSWER_S", 0.3)
    stop = threading.Event()

    def drip(server):
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            with suppress(OSError):
                while not stop.wait(0.02):
                    connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,))
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with session_for(url) as session, pytest.raises(AttachError, match="without end"):
            session.get(url)
        stop.set()
        thread.join(timeout=HANG_S)


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_an_answer_without_end_is_cut_off(encoding):
    import gzip

    body = bytes(64 << 20)
    body = gzip.compress(body) if encoding == "gzip" else body
    with serving(Server()) as server, session_for(server.url) as session:
        server.fail("GET", 200, headers={"Content-Encoding": encoding}, body=body)
        with pytest.raises(AttachError, match="without end"):
            session.get(server.url)


def test_a_message_of_the_server_is_short_on_one_line_and_without_the_token():
    said = {"message": f"no\r\nAuthorization: Bearer {TOKEN}\x1b[2J" + "x" * 1000}
    with serving(Server()) as server, session_for(server.url, secrets=(TOKEN,)) as session:
        server.fail("GET", 400, body=said)
        with pytest.raises(RefusedError) as caught:
            session.get(server.url)
    assert TOKEN not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "body", [b"\xff", b"[1]", b'"x"', b'{"message": 5}', b'{"errors": [[1], {"message": null}]}', b""]
)
def test_any_body_of_an_error_is_survived(body):
    with serving(Server()) as server, session_for(server.url) as session:
        server.fail("GET", 418, body=body)
        with pytest.raises(RefusedError, match=r"refuses.*\(status 418\)"):
            session.get(server.url)


def test_nothing_is_repeated_by_the_transport_itself():
    with serving(Server()) as server, session_for(server.url) as session:
        server.fail("GET", "cut", times=9)
        with pytest.raises(UnclearError):
            session.get(server.url)
    assert len(server.requests) == 1


def test_what_was_found_is_not_made():
    assert settle(lambda: "there", pytest.fail, say=pytest.fail, sleep=pytest.fail) == ("there", False)


def test_what_was_perhaps_made_is_looked_for_before_it_is_made_again():
    made = []

    def make():
        made.append("it")
        raise BUSY

    assert settle(lambda: made[0] if made else None, make, say=str, sleep=str) == ("it", True)
    assert made == ["it"]


def test_what_was_there_before_a_failed_look_is_not_called_new():
    looks = iter([BUSY, "there"])

    def find():
        seen = next(looks)
        if isinstance(seen, Exception):
            raise seen
        return seen

    assert settle(find, pytest.fail, say=str, sleep=str) == ("there", False)


def test_patience_has_an_end():
    waits = []

    def step():
        raise BUSY

    with pytest.raises(UnclearError, match="busy"):
        repeat(step, say=str, sleep=waits.append)
    assert waits == [1.0, 2.0, 4.0]
