"""A proxy's configuration, whatever proxy it is of. Knows how to tell them apart, and reads none itself."""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pcapdiag.base.errors import UsageError
from pcapdiag.base.suggest import cannot_open
from pcapdiag.proxy.conf.apisix import is_apisix, read_apisix
from pcapdiag.proxy.conf.caddy import is_caddy, read_caddy, read_caddy_json
from pcapdiag.proxy.conf.caddyfile import is_caddyfile
from pcapdiag.proxy.conf.envoy import is_envoy, read_envoy
from pcapdiag.proxy.conf.foreign import foreign_kind
from pcapdiag.proxy.conf.haproxy import read_haproxy
from pcapdiag.proxy.conf.httpd import read_httpd
from pcapdiag.proxy.conf.ingress import read_ingress
from pcapdiag.proxy.conf.kong import is_kong, kong_lines, read_kong, read_kong_declarative
from pcapdiag.proxy.conf.nginx import read_nginx
from pcapdiag.proxy.conf.nginx_source import MOST_BYTES, is_dump
from pcapdiag.proxy.conf.settings import ProxyKind
from pcapdiag.proxy.conf.traefik import is_traefik, read_traefik
from pcapdiag.proxy.conf.tree import read_toml, read_tree

if TYPE_CHECKING:
    from pcapdiag.proxy.conf.settings import ProxySettings

_YAML: Final = re.compile(r"---|[\[{]|[\w.\"'-]+:(?:\s|$)")
"""What YAML and JSON begin with after comments, and no other configuration."""
_TOML: Final = re.compile(r"\[{1,2}[A-Za-z_][\w.\"-]*\]{1,2}\s*(?:#.*)?")


CONFIGURATIONS: Final = {
    ProxyKind.NGINX: "nginx.conf with its includes, what `nginx -T` prints (also OpenResty's)",
    ProxyKind.APISIX: "config.yaml, objects of the Admin API or of apisix.yaml",
    ProxyKind.INGRESS_NGINX: "its ConfigMap",
    ProxyKind.KONG: "kong.conf, a declarative configuration",
    ProxyKind.HAPROXY: "haproxy.cfg",
    ProxyKind.APACHE: "a file with ProxyPass or BalancerMember",
    ProxyKind.ENVOY: "bootstrap, discovery resources, `/config_dump`, istioctl's JSON",
    ProxyKind.TRAEFIK: "static and dynamic files (YAML, TOML), objects of Kubernetes",
    ProxyKind.CADDY: "a Caddyfile, Caddy's JSON",
}
"""What is read of which proxy, for the documentation."""


def read_proxy_conf(path: str | Path, *, version: str = "") -> ProxySettings:
    """Read the configuration of nginx, APISIX, ingress-nginx, Kong, HAProxy, Apache httpd, Envoy, Traefik or Caddy.

    Parameters
    ----------
    path : str or Path
        nginx.conf (or what ``nginx -T`` printed), APISIX config.yaml or upstream objects, an ingress-nginx ConfigMap,
        kong.conf or a declarative configuration of Kong, haproxy.cfg, a file of Apache httpd with its ProxyPass,
        Envoy's bootstrap or what it dumps, Traefik's static or dynamic configuration, a Caddyfile or Caddy's JSON.
    version : str
        Version of the proxy if it is known, as its Server field says it.

    Returns
    -------
    ProxySettings
        Each setting with where it was read, or why it was assumed. Errors in the content are notes.

    Raises
    ------
    UsageError
        If the file cannot be read, is no text, or of no proxy that is known.
    """
    path = Path(path)
    text = _text(path)
    if is_dump(text):
        return read_nginx(path, text, version=version)
    first = next((line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")), "")
    if is_caddyfile(text):
        return read_caddy(text, str(path))
    if _TOML.fullmatch(first.strip()) or path.suffix.lower() == ".toml":
        return _read_toml(path, text)
    if _YAML.match(first.lstrip()) or path.suffix.lower() in {".yaml", ".yml", ".json"}:
        return _read_yaml(path, text, version)
    kind = foreign_kind(text)
    if kind is ProxyKind.HAPROXY:
        return read_haproxy(text, str(path))
    if kind is ProxyKind.APACHE:
        return read_httpd(text, str(path))
    if lines := kong_lines(text):
        return read_kong(lines, str(path), version=version)
    return read_nginx(path, text, version=version)


def _read_yaml(path: Path, text: str, version: str) -> ProxySettings:
    documents, errors = read_tree(text, str(path))
    notes = list(errors)
    for document in documents:
        listed = document.get("items")
        for item in (document, *(listed.elements() if listed else ())):
            kind, data = item.get("kind"), item.get("data")
            if kind is None or kind.text != "ConfigMap":
                continue
            if data and any(key.endswith(".conf") for key, _ in data.items()):
                msg = f"{path}: a ConfigMap that holds files; save its nginx.conf as a file and give that"
                raise UsageError(msg)
            return read_ingress(item, str(path), notes, version=version)
    if documents and is_kong(documents[0]):
        return read_kong_declarative(documents[0], str(path), notes, version=version)
    if any(is_envoy(document) for document in documents):
        return read_envoy(documents, str(path), notes)
    if any(is_caddy(document) for document in documents):
        return read_caddy_json(documents, str(path), notes)
    if any(is_traefik(document) for document in documents):
        return read_traefik(documents, str(path), notes)
    if any(is_apisix(document) for document in documents):
        return read_apisix(documents, str(path), notes, version=version)
    why = f"{errors[0].source}: {errors[0].text}" if errors else "none of their keys is in it"
    msg = f"{path}: neither APISIX, Kong, Envoy, Traefik, Caddy, nor a ConfigMap of ingress-nginx ({why})"
    raise UsageError(msg)


def _read_toml(path: Path, text: str) -> ProxySettings:
    documents, errors = read_toml(text, str(path))
    if any(is_traefik(document) for document in documents):
        return read_traefik(documents, str(path), list(errors))
    why = f": {errors[0].text}" if errors else ""
    msg = f"{path}: TOML that is not Traefik's{why}"
    raise UsageError(msg)


def must_be_readable(path: str) -> None:
    """Raise `UsageError` unless `path` is a file that may be a configuration.

    Parameters
    ----------
    path : str
        What the user named as configuration.

    Raises
    ------
    UsageError
        It is missing, no file, no text, or must not be read.
    """
    _text(Path(path))


def _text(path: Path) -> str:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            msg = f"{path} is no file; --proxy-conf wants the proxy's configuration"
            raise UsageError(msg)
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise UsageError(cannot_open(str(path), error)) from error
    if len(content) > MOST_BYTES:
        msg = f"{path}: more than {MOST_BYTES >> 20} MiB; that is no configuration"
        raise UsageError(msg)
    if b"\0" in content:
        msg = f"{path}: this is no text; --proxy-conf wants the proxy's configuration"
        raise UsageError(msg)
    return content.decode("utf-8", "replace").removeprefix("\ufeff")
