"""Real servers of the lab: the proxy, and each upstream with its own idle timeout.

Each writes the ``X-Request-Id`` of every request that it took up to ``requests.log`` in its folder, as its own account.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.waiting import HANG_S

HTTPD_MODULES = "/usr/lib/apache2/modules"
APPS = Path(__file__).parent / "apps"
PORT, PROXY_PORT = 80, 8080
TIMEOUT_S = 2
"""How long the proxies that are not nginx wait for an answer."""
LOG_FORMAT = (
    '$msec $connection $connection_requests "$upstream_addr" "$upstream_status" "$upstream_response_time" '
    '"$upstream_connect_time" "$upstream_header_time" $http_x_request_id $status $request_time '
    '$remote_addr:$remote_port "$request"'
)
TEMPORARY = "".join(
    f"  {kind}_temp_path tmp_{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
)
HTTP = """proxy_pass http://be;
      proxy_http_version 1.1;
      proxy_set_header Connection "";"""
FASTCGI = """fastcgi_pass be;
      fastcgi_keep_conn on;
      fastcgi_param SCRIPT_FILENAME index.php;
      fastcgi_param REQUEST_METHOD $request_method;
      fastcgi_param REQUEST_URI $request_uri;
      fastcgi_param CONTENT_LENGTH $content_length;"""

SCGI = """scgi_pass be;
      scgi_param REQUEST_METHOD $request_method;
      scgi_param REQUEST_URI $request_uri;
      scgi_param HTTP_HOST $host;"""


@dataclass(frozen=True, slots=True)
class Proxy:
    """The settings of the proxy that scenarios differ in."""

    keepalive_timeout: str = "60s"
    server: str = ""
    """Parameters of each server, e.g. ``max_fails=0``."""
    location: str = HTTP
    more: str = ""
    """Further lines of the location."""
    listen: str = ""
    """Further parameters of ``listen``."""
    pool: int = 32
    """Idle connections that it keeps; 0 for none."""
    needs: tuple[str, ...] = ()
    logs_tries: bool = True

    def configuration(self, addresses):
        """Return nginx.conf."""
        pool = f"keepalive {self.pool};\n    keepalive_timeout {self.keepalive_timeout};" if self.pool else ""
        servers = "\n".join(f"    server {a}:{PORT}{self.server and ' '}{self.server};" for a in addresses)
        more = f"\n      {self.more}" if self.more else ""
        return f"""worker_processes 1;
user root;
pid nginx.pid;
error_log error.log warn;
events {{ worker_connections 256; }}
http {{
{TEMPORARY}  log_format lab '{LOG_FORMAT}';
  access_log access.log lab;
  upstream be {{
{servers}
    {pool}
  }}
  server {{
    listen 127.0.0.1:{PROXY_PORT}{self.listen and " "}{self.listen};
    client_max_body_size 16m;
    client_body_buffer_size 1m;
    location / {{
      {self.location}{more}
    }}
  }}
}}
"""

    def start(self, machine, folder, addresses):
        """Start nginx as the proxy."""
        _run_nginx(machine, folder, self.configuration(addresses))
        machine.wait_for_port(PROXY_PORT)


@dataclass(frozen=True, slots=True)
class HaproxyAsProxy:
    """HAProxy in the place of nginx, with its own log of requests."""

    needs: tuple[str, ...] = ("haproxy",)
    logs_tries: bool = False

    def start(self, machine, folder, addresses):
        """Start HAProxy as the proxy; one thread, so that all kept connections are in one pool."""
        servers = "\n".join(f"  server s{n} {a}:{PORT} pool-purge-delay 60s" for n, a in enumerate(addresses, 1))
        (folder / "haproxy.cfg").write_text(f"""global
  log stdout format raw local0
  nbthread 1
defaults
  mode http
  log global
  option httplog
  timeout client 30s
  timeout connect 5s
  timeout server {TIMEOUT_S}s
  retries 1
frontend lab
  bind 127.0.0.1:{PROXY_PORT}
  http-request capture req.hdr(X-Request-Id) len 64
  default_backend be
backend be
  http-reuse always
{servers}
""")
        machine.run("haproxy", "-db", "-f", "haproxy.cfg", folder=folder, log="haproxy.log")
        machine.wait_for_port(PROXY_PORT)


@dataclass(frozen=True, slots=True)
class HttpdAsProxy:
    """Apache httpd in the place of nginx, with its own error log."""

    needs: tuple[str, ...] = ("apache2",)
    logs_tries: bool = False

    def start(self, machine, folder, addresses):
        """Start httpd as the proxy; its one upstream is never put out."""
        (address,) = addresses
        modules = "mpm_event", "authz_core", "proxy", "proxy_http"
        lines = "\n".join(f"LoadModule {name}_module {HTTPD_MODULES}/mod_{name}.so" for name in modules)
        (folder / "httpd.conf").write_text(f"""ServerName lab
ServerRoot "."
PidFile httpd.pid
User www-data
Group www-data
DefaultRuntimeDir "."
{lines}
StartServers 1
ServerLimit 1
ThreadsPerChild 16
MaxRequestWorkers 16
ErrorLog error.log
LogLevel warn
Listen 127.0.0.1:{PROXY_PORT}
ProxyPass / http://{address}:{PORT}/ retry=0 timeout={TIMEOUT_S}
""")
        httpd = ("apache2", "-d", folder, "-f", folder / "httpd.conf", "-DFOREGROUND")
        machine.run(*httpd, folder=folder, log="console.log")
        machine.wait_for_port(PROXY_PORT)


@dataclass(frozen=True, slots=True)
class CaddyAsProxy:
    """Caddy in the place of nginx, with one log of requests, errors and what its proxy says of each try."""

    needs: tuple[str, ...] = ("caddy",)
    logs_tries: bool = False

    def start(self, machine, folder, addresses):
        """Start Caddy as the proxy; it keeps idle connections for two minutes, and tries no request twice."""
        servers = " ".join(f"{address}:{PORT}" for address in addresses)
        (folder / "Caddyfile").write_text(f"""{{
	admin off
	auto_https off
	log {{
		level DEBUG
		output file caddy.log
		format json
	}}
}}
http://:{PROXY_PORT} {{
	bind 127.0.0.1
	log
	reverse_proxy {servers} {{
		transport http {{
			keepalive 2m
			dial_timeout 1s
			response_header_timeout {TIMEOUT_S}s
		}}
	}}
}}
""")
        caddy = ("caddy", "run", "--config", "Caddyfile", "--adapter", "caddyfile")
        machine.run(*caddy, folder=folder, log="console.log", env={"HOME": str(folder / "tmp_caddy")})
        machine.wait_for_port(PROXY_PORT)


def _run_nginx(machine, folder, text):
    (folder / "nginx.conf").write_text(text)
    nginx = ("nginx", "-p", f"{folder}/", "-e", "error.log", "-c", "nginx.conf", "-g", "daemon off;")
    return machine.run(*nginx, folder=folder, log="console.log")


@dataclass(frozen=True, slots=True)
class Upstream:
    """A kind of server: how it is started, and the programs and modules that this needs."""

    name: str
    run: Callable
    """``run(machine, folder)`` starts it and returns its main process."""
    needs: tuple[str, ...]

    def start(self, machine, folder):
        """Start it and wait until it accepts connections."""
        process = self.run(machine, folder)
        if process is not None:
            machine.wait_for_port(PORT)
        return process


def nginx(*, keepalive_s, more="", listen="", connections=256):
    """Nginx as an upstream; `more` are further lines of its server, `connections` all that its worker has."""

    def run(machine, folder):
        if "ssl" in listen:
            make_certificate(folder)
        text = f"""worker_processes 1;
user root;
pid nginx.pid;
error_log error.log warn;
events {{ worker_connections {connections}; }}
http {{
{TEMPORARY}  log_format id '$http_x_request_id';
  access_log requests.log id;
  keepalive_timeout {keepalive_s}s;
  server {{
    listen {PORT}{listen and " "}{listen};
    {more}
    location / {{ return 200 "answer of nginx\\n"; }}
  }}
}}
"""
        return _run_nginx(machine, folder, text)

    return Upstream("nginx", run, ("nginx", *(("openssl",) if "ssl" in listen else ())))


def make_certificate(folder):
    """Make a key and a certificate for a day."""
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "key.pem")
    command = ["openssl", "req", "-x509", *key, "-out", "certificate.pem", "-days", "1", "-subj", "/CN=lab"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=HANG_S)


def gunicorn(*, keepalive_s):
    """Gunicorn with uvicorn's worker and an application of FastAPI."""

    def run(machine, folder):
        options = ("-k", "uvicorn.workers.UvicornWorker", "-w", "1", "-b", f"0.0.0.0:{PORT}")
        options += ("--keep-alive", keepalive_s, "--graceful-timeout", "5", "--pythonpath", APPS)
        return machine.run(
            *(sys.executable, "-m", "gunicorn", *options, "fastapi_app:app"),
            folder=folder,
            log="gunicorn.log",
        )

    return Upstream("gunicorn", run, ("gunicorn", "uvicorn", "fastapi"))


def node(*, keepalive_ms):
    """Node.js with its own HTTP server."""

    def run(machine, folder):
        return machine.run("node", APPS / "node_app.js", PORT, keepalive_ms, folder=folder, log="node.log")

    return Upstream("node", run, ("node",))


def node_with_keys(version, *, keepalive_ms):
    """Node.js as an HTTPS server of one version of TLS, which writes its sessions' secrets to ``keys.log``."""

    def run(machine, folder):
        make_certificate(folder)
        program = ("node", "--tls-keylog=keys.log", APPS / "node_app.js")
        return machine.run(*program, PORT, keepalive_ms, version, folder=folder, log="node.log")

    return Upstream(f"node with {version}", run, ("node", "openssl"))


def lighttpd(*, keepalive_s):
    """Lighttpd, which looks at its idle connections once a second."""

    def run(machine, folder):
        (folder / "index.html").write_text("answer of lighttpd\n")
        (folder / "lighttpd.conf").write_text(f"""server.modules = ("mod_accesslog", "mod_rewrite")
server.document-root = "{folder}"
server.port = {PORT}
server.errorlog = "{folder}/error.log"
server.max-keep-alive-idle = {keepalive_s}
server.max-keep-alive-requests = 1000
accesslog.filename = "{folder}/requests.log"
accesslog.format = "%{{X-Request-Id}}i"
url.rewrite-once = ( "" => "/index.html" )
""")
        return machine.run("lighttpd", "-D", "-f", "lighttpd.conf", folder=folder, log="console.log")

    return Upstream("lighttpd", run, ("lighttpd",))


def haproxy(*, keepalive_s):
    """HAProxy, which answers by itself."""

    def run(machine, folder):
        (folder / "haproxy.cfg").write_text(f"""global
  log stdout format raw local0
defaults
  mode http
  log global
  timeout client 30s
  timeout connect 5s
  timeout server 30s
  timeout http-request 30s
  timeout http-keep-alive {keepalive_s}s
frontend lab
  bind :{PORT}
  http-request capture req.hdr(X-Request-Id) len 64
  log-format "%[capture.req.hdr(0)]"
  http-request return status 200 content-type text/plain string "answer of HAProxy"
""")
        return machine.run("haproxy", "-db", "-f", "haproxy.cfg", folder=folder, log="requests.log")

    return Upstream("haproxy", run, ("haproxy",))


def php_fpm_program():
    """Return the newest php-fpm that is installed; Debian's has its version in its name."""
    programs = sorted(Path("/usr/sbin").glob("php-fpm*"))
    return str(programs[-1]) if programs else "php-fpm"


def php_fpm(*, max_requests=0):
    """php-fpm, asked by FastCGI over kept connections; a child ends after `max_requests`, if that is not 0."""

    def run(machine, folder):
        shutil.copy(APPS / "index.php", folder)
        (folder / "php-fpm.conf").write_text(f"""[global]
error_log = {folder}/error.log
daemonize = no
[lab]
user = root
group = root
listen = 0.0.0.0:{PORT}
chdir = {folder}
pm = static
pm.max_children = 4
pm.max_requests = {max_requests}
""")
        return machine.run(
            *(php_fpm_program(), "-R", "-F", "-y", "php-fpm.conf", "-p", folder),
            folder=folder,
            log="console.log",
        )

    return Upstream("php-fpm", run, (php_fpm_program(),))


def scgi():
    """Python's own server, speaking SCGI: it forks for each request, as CGI does."""

    def run(machine, folder):
        return machine.run(sys.executable, APPS / "scgi_app.py", PORT, folder=folder, log="console.log")

    return Upstream("an SCGI server", run, ())


def grpcio(*, max_age_ms, grace_ms):
    """Grpcio, which says GOAWAY to connections of that age, and closes them after the grace."""

    def run(machine, folder):
        return machine.run(
            *(sys.executable, APPS / "grpc_app.py", "serve", PORT, max_age_ms, grace_ms),
            folder=folder,
            log="grpc.log",
        )

    return Upstream("grpcio", run, ("grpc",))


def http2():
    """HTTP/2 by the library h2, which stops to read uploads to ``/stalled``."""

    def run(machine, folder):
        return machine.run(sys.executable, APPS / "h2_app.py", PORT, folder=folder, log="console.log")

    return Upstream("an HTTP/2 server", run, ("h2",))


def nothing():
    """No server: what nobody listens to."""
    return Upstream("nothing", lambda _machine, _folder: None, ())


def tls(version):
    """Return the lines of an nginx server that speaks this version of TLS only."""
    return f"ssl_certificate certificate.pem; ssl_certificate_key key.pem; ssl_protocols {version};"
