"""The tcpdump line for the next capture, and the log settings that make it decidable.

Knows pcap-filter(7) and what each proxy calls its log settings; knows no log and no packet. What it prints goes into a
shell as root: nothing of a configuration stands in it but addresses and ports that were parsed, written anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pcapdiag.base.triage import CaptureAdvice
from pcapdiag.base.units import format_address, format_endpoint
from pcapdiag.proxy.conf.settings import ProxyKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pcapdiag.proxy.conf.settings import Endpoint, ProxySettings

SNAP_BYTES: Final = 512
"""[bytes] Of each frame: headers, and request lines and response heads of ordinary length; hardly a body."""
_RING: Final = ("-C 100 -W 20", "20 files of 100 MB, the oldest overwritten")
_FILE: Final = "/var/tmp/pcapdiag.pcap"  # noqa: S108 - where tcpdump may write once it has given up root
_MOST_HOSTS: Final = 24
_MOST_CHARS: Final = 400
"""Of a filter by hosts: beyond that, ports say it in fewer words."""
_MOST_PORTS: Final = 24
_LINE: Final = 72
_ICMP: Final = "icmp or icmp6"

NGINX_VARIABLES: Final = (
    *("msec", "connection", "upstream_addr", "upstream_status", "upstream_response_time", "upstream_connect_time"),
    *("upstream_header_time", "status", "request_time", "request"),
)
"""What joins a line with its tries on the wire, one to one."""
_NGINX_FORMAT: Final = (
    "$msec $connection $connection_requests $remote_addr:$remote_port $status $request_time",
    '"$upstream_addr" "$upstream_status" "$upstream_connect_time" "$upstream_header_time"',
    '"$upstream_response_time" "$request"',
)
_ONE_LINE: Final = " ".join(_NGINX_FORMAT)
_LEVELS: Final = frozenset({"info", "debug"})
_SETTINGS: Final[dict[ProxyKind, tuple[str, ...]]] = {
    ProxyKind.APISIX: (
        "nginx_config:",
        "  error_log_level: info",
        "  http:",
        f"    access_log_format: '{_ONE_LINE}'",
    ),
    ProxyKind.INGRESS_NGINX: ("data:", "  error-log-level: info", f"  log-format-upstream: '{_ONE_LINE}'"),
    ProxyKind.KONG: (
        "log_level = info",
        f"nginx_http_log_format = pcapdiag '{_ONE_LINE}'",
        "proxy_access_log = /dev/stdout pcapdiag",
    ),
    ProxyKind.HAPROXY: ("defaults", "    mode http", "    log global", "    option httplog"),
    ProxyKind.ALB: ("access_logs.s3.enabled=true",),
    ProxyKind.CLB: ("AccessLog.Enabled=true",),
    ProxyKind.GCP: ("logConfig.enable: true", "logConfig.sampleRate: 1.0"),
    # Only with this level Caddy says which server a try went to.
    ProxyKind.CADDY: (
        "{",
        "    log {",
        "        level DEBUG",
        "        format json",
        "    }",
        "}",
        "# in each site:",
        "log",
    ),
    ProxyKind.TRAEFIK: ("accessLog:", "  format: json"),
}
_REMARK_MEANT: Final = "These lines join each request with its tries on the wire, one to one, to the millisecond."


def advise_capture(
    settings: ProxySettings | None, upstreams: Sequence[Endpoint] = (), *, kind: ProxyKind | None = None
) -> CaptureAdvice:
    """Return how to make the next capture decidable.

    Parameters
    ----------
    settings : ProxySettings or None
        The configuration, if there is one.
    upstreams : sequence of Endpoint
        Upstreams that the operator named, or that failed by a log; a port of -1 is any.
    kind : ProxyKind or None
        What the proxy is where only its logs tell.

    Returns
    -------
    CaptureAdvice
        Its filter takes all TCP where no upstream is known.
    """
    known = list(dict.fromkeys(upstreams))
    ports: dict[int, None] = {}
    remarks = []
    if settings is not None:
        kind = settings.kind
        n_unix = 0
        for address, point, port in _servers(settings):
            if point is not None:
                known += [point] if point not in known else []
            elif address.startswith("unix:"):
                n_unix += 1
            elif port > 0:
                ports[port] = None
        if n_unix:
            remarks.append("No packet goes through a unix socket: of those upstreams a capture shows nothing.")
        if any(place.upstream == "" for place in settings.locations):
            remarks.append("A target with variables may name further upstreams: give them as --upstream.")
    filter_, remark = _filter(known, tuple(ports))
    if remark:
        remarks.insert(0, remark)
    remarks.append(
        f"Keep it running until requests have failed, and longer than any idle timeout: a ring of {_RING[1]}."
    )
    lines, log_remark = _log_settings(settings, kind)
    return CaptureAdvice(
        command=_command(filter_),
        filter=filter_,
        upstreams=tuple(format_endpoint(*point) for point in known),
        remarks=tuple(remarks),
        log_settings=lines,
        log_remark=log_remark,
    )


def _servers(settings: ProxySettings) -> Iterator[tuple[str, Endpoint | None, int]]:
    for own in settings.own:
        yield own.address, own.endpoint, own.port
    for block in settings.upstreams:
        for server in () if block.is_lua else block.servers:
            yield server.address, server.endpoint, server.port


def _filter(known: Sequence[Endpoint], ports: Sequence[int]) -> tuple[str, str]:
    """Return a filter, and a sentence on what is special about it; empty where nothing is.

    ``and`` and ``or`` bind alike (pcap-filter(7)), so that each group has its parentheses.
    """
    if len(known) > _MOST_HOSTS or sum(len(format_endpoint(*point)) for point in known) > _MOST_CHARS:
        remark = f"There are {len(known)} upstreams: captured by their ports alone."
        ports = tuple(dict.fromkeys((*ports, *(port for *_, port in known))))
        if -1 in ports or len(ports) > _MOST_PORTS:
            return f"tcp or {_ICMP}", f"There are {len(known)} upstreams: all TCP is captured."
        return f"{_any(f'tcp port {port}' for port in ports)} or {_ICMP}", remark
    if len(ports) > _MOST_PORTS or not (known or ports):
        why = "there are too many upstreams" if ports else "no upstream is known"
        return f"tcp or {_ICMP}", f"All TCP is captured, for {why}: --upstream ADDR:PORT narrows it down."
    by_port: dict[int, list[str]] = {}
    for hi, lo, port in known:
        by_port.setdefault(port, []).append(f"host {format_address(hi, lo)}")
    terms = [f"tcp port {port}" for port in ports]
    for port, hosts in by_port.items():
        if port not in ports:
            what = "tcp" if port < 0 else f"tcp port {port}"
            terms.append(f"({what} and {hosts[0] if len(hosts) == 1 else f'({_any(hosts)})'})")
    remark = ""
    if ports:
        remark = "Upstreams that are named, not numbered, are captured by port: a name may be another address tomorrow."
    elif known:
        remark = (
            "Where addresses are translated on the way (a Service of Kubernetes, NAT), capture by port alone:"
            f" '{_any(f'tcp port {p}' for p in by_port if p > 0) or 'tcp'} or {_ICMP}'."
        )
    return f"{_any(terms)} or {_ICMP}", remark


def _any(terms: Iterable[str]) -> str:
    return " or ".join(terms)


def _command(filter_: str) -> tuple[str, ...]:
    """Return the lines of the command; within quotes a shell and pcap take the end of a line for a blank."""
    lines = [f"tcpdump -i any -n -s {SNAP_BYTES} -B 16384 {_RING[0]} \\", f"  -w {_FILE} \\"]
    line = "  '"
    for n, word in enumerate(filter_.split(" or ")):
        piece = f"or {word}" if n else word
        if n and len(line) + 1 + len(piece) > _LINE:
            lines.append(line)
            line = f"   {piece}"
        else:
            line += f" {piece}" if n else piece
    return (*lines, f"{line}'")


def _log_settings(settings: ProxySettings | None, kind: ProxyKind | None) -> tuple[tuple[str, ...], str]:
    if settings is not None and kind is ProxyKind.NGINX:
        return _nginx_settings(settings)
    if kind in _SETTINGS:
        return _SETTINGS[kind], _REMARK_MEANT
    if kind in {None, ProxyKind.NGINX}:
        which = "" if kind is not None else ", if the proxy is nginx"
        return (*_format_lines(), *_LEVEL_LINE), f"{_REMARK_MEANT[:-1]}{which}."
    return (), f"{kind.value} logs by itself all that is read here." if kind is not None else ""


_LEVEL_LINE: Final = ("error_log /var/log/nginx/error.log info;",)


def _format_lines() -> tuple[str, ...]:
    first, *others = _NGINX_FORMAT
    indent = " " * len("log_format pcapdiag ")
    lines = [f"log_format pcapdiag '{first} '", *(f"{indent}'{line} '" for line in others[:-1])]
    return (*lines, f"{indent}'{others[-1]}';", "access_log /var/log/nginx/pcapdiag.log pcapdiag;")


def _nginx_settings(settings: ProxySettings) -> tuple[tuple[str, ...], str]:
    """Return only what the configuration lacks."""
    lines: tuple[str, ...] = ()
    used = [settings.log_format(log.format_name) for log in settings.access_logs]
    texts = [known.text.replace("{", "").replace("}", "") for known in used if known is not None]
    if not any(all(f"${name}" in text for name in NGINX_VARIABLES) for text in texts):
        lines += _format_lines()
    if not any(log.level.value in _LEVELS for log in settings.error_logs):
        lines += _LEVEL_LINE
    if not lines:
        return (), "The logs as they are configured have what joins each request with its tries on the wire."
    return lines, _REMARK_MEANT
