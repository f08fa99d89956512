"""Whom ``sftp://`` trusts and how long it waits: what fsspec leaves open, decided as `ssh` does.

Knows paramiko and the file of known hosts; no capture.
"""

from __future__ import annotations

import logging
import os
from functools import lru_cache
from typing import Any


def open_ssh(url: str, wait_s: float) -> tuple[Any, str]:
    """Return the file system that a URL of ssh leads to, connected, and the path there.

    fsspec by itself trusts any server and waits for a silent one.

    Parameters
    ----------
    url : str
        ``sftp://user@host:port/path``
    wait_s : float
        [s] For each step of a connection, unless the configuration of fsspec names it.

    Returns
    -------
    fs : fsspec.AbstractFileSystem
    path : str

    Raises
    ------
    ImportError
        paramiko is not installed.
    """
    import fsspec  # noqa: PLC0415 - only a URL needs it

    files = _known_hosts_only()
    configured = fsspec.config.conf.get("sftp", {})
    waits = {name: wait_s for name in ("timeout", "banner_timeout", "auth_timeout") if name not in configured}
    return files(**files._get_kwargs_from_urls(url), **waits), files._strip_protocol(url)  # noqa: SLF001 - as fsspec.core does


@lru_cache(maxsize=1)
def known_hosts_policy() -> Any:
    """Return the policy of paramiko that trusts the servers that ssh knows, and no other."""
    import paramiko  # noqa: PLC0415 - only sftp:// needs it

    class KnownHosts(paramiko.MissingHostKeyPolicy):  # type: ignore[misc] # it has no types
        """Asks the file that `ssh` keeps."""

        def missing_host_key(self, client: object, hostname: str, key: paramiko.PKey) -> None:  # noqa: ARG002 - its signature
            known = paramiko.HostKeys()
            path = os.path.expanduser("~/.ssh/known_hosts")  # noqa: PTH111 - paramiko takes text
            if os.path.exists(path):  # noqa: PTH110 - the same
                known.load(path)
            if not known.check(hostname, key):
                msg = f"the key of {hostname} is not that in ~/.ssh/known_hosts: connect to it with ssh first"
                raise paramiko.SSHException(msg)

    return KnownHosts


@lru_cache(maxsize=1)
def _known_hosts_only() -> Any:
    import fsspec  # noqa: PLC0415 - only a URL needs it
    import paramiko  # noqa: PLC0415 - only sftp:// needs it
    from fsspec.implementations.sftp import SFTPFileSystem  # noqa: PLC0415 - with it

    logging.getLogger("paramiko").addHandler(logging.NullHandler())  # what goes wrong is raised, too

    class Files(SFTPFileSystem):  # type: ignore[misc] # it has no types
        """Before 2026.9 fsspec took no policy; where it names one, in its configuration, that one holds."""

        def _connect(self) -> None:
            configured = "host_key_policy" in fsspec.config.conf.get("sftp", {})
            self.client = paramiko.SSHClient()
            self.client.set_missing_host_key_policy(self.host_key_policy if configured else known_hosts_policy()())
            self.client.connect(self.host, **self.ssh_kwargs)
            self.ftp = self.client.open_sftp()

    return Files
