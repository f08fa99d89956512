"""A proxy's configuration, whatever proxy it is of. Knows how to tell them apart, and reads none itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pcapdiag.conf.nginx import read_nginx
from pcapdiag.conf.nginx_source import MOST_BYTES
from pcapdiag.errors import UsageError

if TYPE_CHECKING:
    from pcapdiag.conf.settings import ProxySettings


def read_proxy_conf(path: str | Path, *, version: str = "") -> ProxySettings:
    """Read the configuration of nginx, APISIX, ingress-nginx or Kong.

    Parameters
    ----------
    path : str or Path
        nginx.conf (or what ``nginx -T`` printed), APISIX config.yaml or upstream objects, an ingress-nginx ConfigMap,
        kong.conf.
    version : str
        Version of the proxy if it is known, as its Server field says it.

    Returns
    -------
    ProxySettings
        Each setting with where it was read, or why it was assumed. Errors in the content are notes.

    Raises
    ------
    UsageError
        If the file cannot be read, or is no text.
    """
    path = Path(path)
    return read_nginx(path, _text(path), version=version)


def _text(path: Path) -> str:
    try:
        if not path.is_file():
            msg = f"{path}: there is no such file; --proxy-conf wants the proxy's configuration"
            raise UsageError(msg)
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror}"
        raise UsageError(msg) from error
    if len(content) > MOST_BYTES:
        msg = f"{path}: more than {MOST_BYTES >> 20} MiB; that is no configuration"
        raise UsageError(msg)
    if b"\0" in content:
        msg = f"{path}: this is no text; --proxy-conf wants the proxy's configuration"
        raise UsageError(msg)
    return content.decode("utf-8", "replace").removeprefix("\ufeff")
