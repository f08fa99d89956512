"""Idle timeouts that servers ship with, and the name of the setting that changes each.

Only values read in a server's source or stated in its documentation stand here. The table names what was measured; it
never proves anything, and no value of it is used where the capture shows none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pcapdiag.base.units import NS_PER_S

_EXACT_NS = 250_000_000
"""How late an exact timer may seem at the other end of a long path."""


@dataclass(frozen=True, slots=True)
class ServerDefault:
    """One server's idle timeout as shipped.

    Attributes
    ----------
    name : str
        Server and, where it matters, version or mode.
    idle_s : int
        [s] How long an idle connection is kept.
    setting : str
        What to change in the server to change it.
    source : str
        Where the value was read: a repository and file, or a manual.
    token : str
        What the Server field of its responses contains, lower case; empty if it sends none of its own.
    late_s : float
        [s] How much later than its timeout, whatever that is set to, the connection may really be closed: the server
        looks at its connections only now and then, or when something else wakes it.
    """

    name: str
    idle_s: int
    setting: str
    source: str
    token: str = ""
    late_s: float = 0.0


HTTPD = "apache"
"""What the Server field of Apache httpd contains, and those of other servers of the same foundation do, too."""

_OF_HTTPD = re.compile(r"(?<![\w-])apache(?![\w-])(?!\s+(?:tomcat|traffic))")


def names_server(server_field: str, token: str) -> bool:
    """Tell whether a Server field names a server.

    ``Apache-Coyote/1.1`` is Tomcat's, not httpd's, which says ``Apache`` or ``Apache/2.4.57 (Debian)``.

    Parameters
    ----------
    server_field : str
        Server field of a response.
    token : str
        What that of the server contains, lower case.
    """
    field = server_field.lower()
    pattern = _OF_HTTPD if token == HTTPD else re.compile(rf"(?<![a-z0-9]){re.escape(token)}(?![a-z])")
    return pattern.search(field) is not None


DEFAULTS = (
    ServerDefault("Gunicorn", 2, "gunicorn --keep-alive", "benoitc/gunicorn gunicorn/config.py", "gunicorn", 1.25),
    ServerDefault(
        "Gunicorn with Uvicorn worker", 2, "gunicorn --keep-alive", "Kludex/uvicorn uvicorn/workers.py", "uvicorn"
    ),
    ServerDefault("Uvicorn", 5, "uvicorn --timeout-keep-alive", "Kludex/uvicorn uvicorn/config.py", "uvicorn"),
    ServerDefault(
        "Hypercorn", 5, "hypercorn keep_alive_timeout", "pgjones/hypercorn src/hypercorn/config.py", "hypercorn"
    ),
    ServerDefault("Apache httpd", 5, "Apache KeepAliveTimeout", "apache/httpd include/httpd.h", HTTPD),
    ServerDefault(
        "lighttpd", 5, "lighttpd server.max-keep-alive-idle", "lighttpd/lighttpd1.4 src/configfile.c", "lighttpd", 1.1
    ),
    ServerDefault("Node.js", 5, "Node server.keepAliveTimeout", "nodejs.org http documentation"),
    ServerDefault("Varnish", 5, "Varnish timeout_idle", "varnishcache/varnish-cache varnishd -x parameter", "varnish"),
    ServerDefault("Cowboy", 5, "Cowboy request_timeout", "ninenines/cowboy src/cowboy_http.erl", "cowboy"),
    ServerDefault("actix-web", 5, "actix-web keep_alive", "actix/actix-web actix-http keep-alive configuration"),
    ServerDefault(
        "Node.js (5 s and 1 s keepAliveTimeoutBuffer)",
        6,
        "Node server.keepAliveTimeout",
        "nodejs/node keepAliveTimeoutBuffer",
    ),
    ServerDefault("H2O", 10, "H2O http1-request-timeout", "h2o/h2o include/h2o.h", "h2o"),
    ServerDefault("Cheroot", 10, "Cheroot server.timeout", "cherrypy/cheroot cheroot/server.py", "cheroot"),
    ServerDefault(
        "Apache httpd (older Red Hat configuration)",
        15,
        "Apache KeepAliveTimeout",
        "access.redhat.com reference guide",
        HTTPD,
    ),
    ServerDefault(
        "Tomcat (shipped server.xml)", 20, "Tomcat keepAliveTimeout", "apache/tomcat conf/server.xml", "coyote", 0.3
    ),
    ServerDefault("Puma before 7.0", 20, "Puma persistent_timeout", "puma/puma docs/7.0-Upgrade.md"),
    ServerDefault("Jetty", 30, "Jetty idleTimeout", "jetty/jetty.project AbstractConnector.java", "jetty"),
    ServerDefault(
        "Granian", 30, "granian --http1-header-read-timeout", "emmett-framework/granian granian/http.py", "granian"
    ),
    ServerDefault("Thin", 30, "thin --timeout", "macournoyer/thin lib/thin/server.rb", "thin"),
    ServerDefault(
        "APISIX as server",
        60,
        "APISIX nginx_config.http.keepalive_timeout",
        "apache/apisix apisix/cli/config.lua",
        "apisix",
    ),
    ServerDefault(
        "AWS Application Load Balancer",
        60,
        "ALB idle timeout",
        "docs.aws.amazon.com load balancer attributes",
        "awselb",
    ),
    ServerDefault(
        "AWS Classic Load Balancer", 60, "CLB idle timeout", "docs.aws.amazon.com classic idle timeout", "awselb"
    ),
    ServerDefault(
        "Tomcat (code default)",
        60,
        "Tomcat keepAliveTimeout",
        "apache/tomcat java/org/apache/coyote/http11/Constants.java",
        "coyote",
        0.3,
    ),
    ServerDefault("Undertow", 60, "Undertow NO_REQUEST_TIMEOUT", "undertow-io/undertow Undertow.java", "undertow", 1.1),
    ServerDefault("Twisted Web", 60, "Twisted Site timeout", "twisted/twisted src/twisted/web/http.py", "twistedweb"),
    ServerDefault("nginx (shipped nginx.conf)", 65, "nginx keepalive_timeout", "nginx/nginx conf/nginx.conf", "nginx"),
    ServerDefault("Puma since 7.0", 65, "Puma persistent_timeout", "puma/puma lib/puma/configuration.rb"),
    ServerDefault(
        "nginx (code default)", 75, "nginx keepalive_timeout", "nginx/nginx src/http/ngx_http_core_module.c", "nginx"
    ),
    ServerDefault(
        "aiohttp web.run_app()", 75, "aiohttp keepalive_timeout", "aio-libs/aiohttp aiohttp/web.py", "aiohttp"
    ),
    ServerDefault(
        "waitress", 120, "waitress channel_timeout", "Pylons/waitress src/waitress/adjustments.py", "waitress", 30.5
    ),
    ServerDefault("Sanic", 120, "Sanic KEEP_ALIVE_TIMEOUT", "sanic-org/sanic sanic/config.py"),
    ServerDefault("Squid", 120, "Squid client_idle_pconn_timeout", "squid-cache/squid src/cf.data.pre", "squid"),
    ServerDefault("IIS", 120, "IIS connectionTimeout", "docs.microsoft.com connectionTimeout", "iis"),
    ServerDefault(
        "Kestrel", 130, "Kestrel KeepAliveTimeout", "learn.microsoft.com KestrelServerLimits", "kestrel", 1.1
    ),
    ServerDefault(
        "Traefik", 180, "Traefik respondingTimeouts.idleTimeout", "traefik/traefik pkg/config/static/static_config.go"
    ),
    ServerDefault("Caddy", 300, "Caddy timeouts idle", "caddyserver/caddy modules/caddyhttp/app.go", "caddy"),
    ServerDefault("Envoy", 3600, "Envoy idle_timeout", "envoyproxy.io timeouts FAQ", "envoy"),
    ServerDefault(
        "Tornado", 3600, "Tornado idle_connection_timeout", "tornadoweb/tornado tornado/httpserver.py", "tornadoserver"
    ),
    ServerDefault(
        "aiohttp AppRunner since 3.11",
        3630,
        "aiohttp keepalive_timeout",
        "aio-libs/aiohttp aiohttp/web_protocol.py",
        "aiohttp",
    ),
)
"""Shortest first."""

_OTHER_SETTINGS = (("openresty", "nginx keepalive_timeout"),)


def name_idle_timeout(value_ns: int, spread_ns: int, server_field: str = "") -> tuple[str, ...]:
    """Return the servers whose shipped idle timeout this may be; only those that the Server field allows.

    A field that names none of the table may be an application's own word, but not of a server that names itself.

    Parameters
    ----------
    value_ns : int
        [ns] Idle timeout as measured.
    spread_ns : int
        [ns] Its spread.
    server_field : str
        Server field of the responses, empty if there was none.

    Returns
    -------
    tuple of str
        Names, several where several servers share a default; empty for a value that no server ships with.
    """
    names: list[str] = []
    for default in _candidates(server_field):
        nominal_ns = default.idle_s * NS_PER_S
        early_ns = max(nominal_ns // 200, 20_000_000)
        late_ns = max(int(default.late_s * NS_PER_S), nominal_ns // 100)
        # A sweep is late by a different time at each connection: as much as the values are spread, or it is no sweep.
        late_here_ns = min(late_ns, max(spread_ns, nominal_ns // 100) + _EXACT_NS)
        if -early_ns <= value_ns - nominal_ns <= late_here_ns and spread_ns <= late_ns + early_ns:
            names.append(default.name)
    return tuple(names)


def lateness_ns(server_field: str) -> int:
    """[ns] Return how much later than its idle timeout a server may close, by its Server field; 0 if it is not known.

    Parameters
    ----------
    server_field : str
        Server field of the responses.
    """
    return max((int(d.late_s * NS_PER_S) for d in _family(server_field)), default=0)


def is_known_server(server_field: str) -> bool:
    """Tell whether the Server field names a server of the table: how exact its timer is, stands there."""
    return bool(_family(server_field))


def idle_timeout_setting(server_field: str, named_as: tuple[str, ...] = ()) -> str:
    """Return the setting that changes an upstream's idle timeout, or an empty string where the server is not known.

    Parameters
    ----------
    server_field : str
        Server field of the responses.
    named_as : tuple of str
        What the measured value may be, from `name_idle_timeout`.

    Returns
    -------
    str
        For example ``nginx keepalive_timeout``.
    """
    family = _family(server_field)
    named = [d for d in _candidates(server_field) if d.name in named_as]
    settings = list(dict.fromkeys(d.setting for d in named or family))
    settings += [
        setting for token, setting in _OTHER_SETTINGS if names_server(server_field, token) and setting not in settings
    ]
    # A long list of servers that it may be helps nobody.
    return " or ".join(settings) if len(settings) <= 2 else ""


def _candidates(server_field: str) -> list[ServerDefault]:
    return _family(server_field) or [d for d in DEFAULTS if not server_field or not d.token]


def _family(server_field: str) -> list[ServerDefault]:
    return [d for d in DEFAULTS if d.token and names_server(server_field, d.token)]
