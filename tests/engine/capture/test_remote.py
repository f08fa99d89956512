"""Captures by URL: no secret in it is shown, and a server that does not answer is not asked for every file."""

import socket
import threading
import time
from contextlib import suppress
from types import SimpleNamespace

import pytest

from pcapdiag.base.errors import CaptureError, UsageError
from pcapdiag.engine.capture import remote
from pcapdiag.engine.capture.remote import find_remote, is_url
from pcapdiag.engine.capture.ssh import open_ssh

pytestmark = pytest.mark.compiled_only


@pytest.mark.parametrize("spec", ["s3://b/x.pcap", "sftp://h/x", "GS://b/x", "a+b-c.d://x"])
def test_a_url_is_told_from_a_path(spec):
    assert is_url(spec)
    assert not any(is_url(path) for path in (spec.replace("://", ":/"), f"./{spec}", "C:\\x", "-", "a.pcap"))


@pytest.mark.parametrize("secret", ["hunter2", "hunter/2", "hunter#2", "hunter?2", "hunter[2", "hunter@2"])
@pytest.mark.parametrize("scheme", ["sftp", "s3", "https", "nowhere"])
def test_a_password_is_found_in_a_url_that_cannot_be_read_as_one(scheme, secret):
    with pytest.raises(UsageError, match="leave the password out of the URL") as refused:
        find_remote(f"{scheme}://ops:{secret}@host/x.pcap", recursive=True)
    assert "hunter" not in str(refused.value)


def test_a_server_that_is_silent_is_not_asked_for_every_file(monkeypatch):
    pytest.importorskip("fsspec.implementations.sftp")  # loading it takes longer than the server is waited for
    monkeypatch.setattr(remote, "_ANSWERS_S", 0.4)
    monkeypatch.setattr(remote, "_PATIENCE_S", 0.5)
    monkeypatch.setattr(remote, "_REST_S", 1.0)
    now_s = [0.0]

    def wait_in_vain(url, seconds):
        now_s[0] += seconds
        return open_ssh(url, seconds)

    monkeypatch.setattr(remote, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    monkeypatch.setattr(remote, "open_ssh", wait_in_vain)
    with socket.create_server(("127.0.0.1", 0), backlog=30) as silent:
        silent.setblocking(False)
        url = f"sftp://127.0.0.1:{silent.getsockname()[1]}/x.pcap"
        assert _ask(url, 20, silent) == 3  # 0.2 s each
        now_s[0] += 1.0
        assert _ask(url, 20, silent) == 1


def test_a_server_that_refuses_at_once_costs_no_patience():
    with socket.create_server(("127.0.0.1", 0), backlog=30) as refusing:
        refusing.setblocking(False)
        closer = threading.Thread(target=_close_all, args=(refusing,), daemon=True)
        closer.start()
        for _ in range(20):
            with pytest.raises(CaptureError, match=r"refused \(Error reading SSH protocol banner"):
                remote.RemoteStored(f"sftp://127.0.0.1:{refusing.getsockname()[1]}/x.pcap")
    closer.join()


def _ask(url, n, server):
    """Try to open a file n times; return how often the server was asked."""
    for _ in range(n):
        with pytest.raises(CaptureError, match="the connection was lost or the server refused"):
            remote.RemoteStored(url)
    n_asked = 0
    with suppress(BlockingIOError):
        while True:
            server.accept()[0].close()
            n_asked += 1
    return n_asked


def _close_all(server):
    with suppress(OSError):
        while True:
            with suppress(BlockingIOError):
                server.accept()[0].close()
            time.sleep(0.001)
