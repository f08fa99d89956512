"""How a server of sftp is spoken to: for as long as that makes sense, and only if ssh knows it."""

import fsspec
import paramiko
import pytest

from pcapdiag.engine.capture import ssh

pytestmark = pytest.mark.compiled_only

WAITS = ("timeout", "banner_timeout", "auth_timeout")


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    return tmp_path


class Files:
    """Stands for fsspec's file system: what it is made with."""

    def __init__(self, **options):
        self.options = options

    @staticmethod
    def _get_kwargs_from_urls(url):
        return {"host": url.split("/")[2]}

    @staticmethod
    def _strip_protocol(url):
        return url.partition("://")[2].partition("/")[2]


def test_every_wait_is_bounded_but_for_what_is_configured(monkeypatch):
    monkeypatch.setattr(ssh, "_known_hosts_only", lambda: Files)
    files, path = ssh.open_ssh("sftp://host/x.pcap", 7.0)
    assert (path, files.options) == ("x.pcap", {"host": "host"} | dict.fromkeys(WAITS, 7.0))
    monkeypatch.setitem(fsspec.config.conf, "sftp", {"timeout": 99})
    assert set(ssh.open_ssh("sftp://host/x.pcap", 7.0)[0].options) == {"host", "banner_timeout", "auth_timeout"}


def test_a_key_is_trusted_only_if_ssh_knows_it_for_this_host(home):
    key, other = paramiko.ECDSAKey.generate(), paramiko.ECDSAKey.generate()
    policy = ssh.known_hosts_policy()()
    with pytest.raises(paramiko.SSHException, match="connect to it with ssh first"):
        policy.missing_host_key(None, "10.0.0.1", key)
    known = home / ".ssh" / "known_hosts"
    known.write_text(f"10.0.0.1 {key.get_name()} {key.get_base64()}\n")
    policy.missing_host_key(None, "10.0.0.1", key)
    for host, given in (("10.0.0.1", other), ("10.0.0.2", key)):
        with pytest.raises(paramiko.SSHException, match=f"the key of {host} is not that"):
            policy.missing_host_key(None, host, given)
