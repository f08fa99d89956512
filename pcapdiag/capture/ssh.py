"""Whom ``sftp://`` trusts and how long it waits: what fsspec leaves open, decided as `ssh` does.

Knows paramiko and the file of known hosts; no capture.
"""

from __future__ import annotations

import logging
import os
from typing import Any


def ssh_options(wait_s: float) -> dict[str, Any]:
    """Return how to reach a server by ssh: fsspec by itself would trust any, and wait for a silent one.

    Parameters
    ----------
    wait_s : float
        [s] For each step of a connection.

    Returns
    -------
    dict
        Options for fsspec, without those that its configuration names.

    Raises
    ------
    ImportError
        paramiko is not installed.
    """
    import fsspec  # noqa: PLC0415 - only a URL needs it
    import paramiko  # noqa: PLC0415 - only sftp:// needs it

    logging.getLogger("paramiko").addHandler(logging.NullHandler())  # what goes wrong is raised, too

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

    options: dict[str, Any] = dict.fromkeys(("timeout", "banner_timeout", "auth_timeout"), wait_s)
    configured = fsspec.config.conf.get("sftp", {})
    return {
        name: value for name, value in (options | {"host_key_policy": KnownHosts}).items() if name not in configured
    }
