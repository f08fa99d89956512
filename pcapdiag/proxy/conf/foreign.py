"""Whose configuration a file is if it is not of nginx's kin: HAProxy's or Apache's. Knows their shape, no setting."""

from __future__ import annotations

import re
from typing import Final

from pcapdiag.proxy.conf.settings import ProxyKind

_HAPROXY_SECTION: Final = re.compile(r"(?:global|defaults|frontend|backend|listen)(?:\s[^{};#]*+)?(?:#.*)?")
_HAPROXY_LINE: Final = re.compile(
    r"\s+(?:mode (?:http|tcp)|bind\s|server \S+ \S+|default_backend\s|timeout (?:client|server|connect|http)|balance\s)"
)
_APACHE_LINE: Final = re.compile(
    r"\s*(?:<(?:VirtualHost|IfModule|Proxy|Location|Directory)\b[^>]*>|LoadModule\s+\w+\s|ProxyPass\s|ServerRoot\s"
    r"|BalancerMember\s|DocumentRoot\s|ProxyPassReverse\s)",
    re.IGNORECASE,
)


def foreign_kind(text: str) -> ProxyKind | None:
    """Return whose configuration a text is if it is HAProxy's or Apache's; None for any other."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not lines or any(line.rstrip().endswith((";", "{")) for line in lines[:5]):
        return None
    if any(map(_HAPROXY_SECTION.fullmatch, lines)) and any(map(_HAPROXY_LINE.match, lines)):
        return ProxyKind.HAPROXY
    return ProxyKind.APACHE if sum(map(bool, map(_APACHE_LINE.match, lines))) >= 2 else None
