"""What a proxy's configuration says, as plain data: each value with where it was read, or why it was assumed.

Knows nothing of files and syntaxes: `nginx.py`, `apisix.py`, `ingress.py` and `kong.py` fill these, in nginx's words;
`haproxy.py`, `httpd.py`, `envoy.py`, `traefik.py` and `caddy.py` fill `OwnServer`, in their own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from pcapdiag.base.units import parse_endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_PORT: Final = re.compile(r"(?:^|:)(\d{1,5})$", re.ASCII)
T_co = TypeVar("T_co", covariant=True)
Endpoint = tuple[int, int, int]
"""Upper and lower 64 bits of an address, and a port: `units.parse_endpoint`."""


class ProxyKind(Enum):
    """Whose configuration it is; the value is how a report writes it."""

    NGINX = "nginx"
    APISIX = "APISIX"
    INGRESS_NGINX = "ingress-nginx"
    KONG = "Kong"
    HAPROXY = "HAProxy"
    APACHE = "Apache httpd"
    ALB = "AWS ALB"
    ENVOY = "Envoy"
    CADDY = "Caddy"
    TRAEFIK = "Traefik"
    GCP = "GCP load balancer"
    CLB = "AWS CLB"


OF_OTHER_KIN = frozenset(
    {
        *(ProxyKind.HAPROXY, ProxyKind.APACHE, ProxyKind.ALB, ProxyKind.ENVOY),
        *(ProxyKind.CADDY, ProxyKind.TRAEFIK, ProxyKind.GCP, ProxyKind.CLB),
    }
)
"""Proxies whose logs tell that a try failed; not what an answer lacked, which peers were out, or were tried before."""


@dataclass(frozen=True, slots=True)
class Setting(Generic[T_co]):
    """One value.

    Attributes
    ----------
    value : object
        Times in ns, sizes in bytes. -1 is a time or number without a limit, or one that cannot be known.
    source : str
        ``file:line`` where it was read, the file as the operator or a dump names it; empty if it was not.
    assumed : bool
        Nothing was read; the value is the proxy's default.
    why : str
        Whose default an assumed value is and since when, or what is odd about one that was read.
    is_contradicted : bool
        The default cannot be what holds, by what the capture shows; `why` says it, and `value` is -1.
    """

    value: T_co
    source: str = ""
    assumed: bool = False
    why: str = ""
    is_contradicted: bool = False


@dataclass(frozen=True, slots=True)
class Server:
    """One server of an upstream block.

    Attributes
    ----------
    address : str
        As written.
    endpoint : tuple of int or None
        The address and port of a literal address; None for a name, a socket file or a variable.
    port : int
        The port, a default one included; -1 if there is none.
    weight, max_conns : Setting of int
        A `max_conns` of 0 is no limit.
    max_fails : Setting of int
        0 switches the counting of failures off.
    fail_timeout_ns : Setting of int
        [ns] Over which failures are counted, and for which a peer is out.
    backup, down : bool
        As flagged.
    source : str
        ``file:line``.
    """

    address: str
    endpoint: Endpoint | None
    port: int
    weight: Setting[int]
    max_conns: Setting[int]
    max_fails: Setting[int]
    fail_timeout_ns: Setting[int]
    backup: bool
    down: bool
    source: str


@dataclass(frozen=True, slots=True)
class UpstreamBlock:
    """A group of servers and the pool of connections to them.

    Attributes
    ----------
    name : str
        As a log entry or a proxy_pass names it.
    servers : tuple of Server
        In the order of the configuration.
    method : Setting of str
        How a peer is picked: ``round_robin`` or the directive that replaces it.
    zone : Setting of str
        Name of the shared memory; empty: each worker counts failures on its own.
    keepalive : Setting of int
        Idle connections that a worker keeps; 0: none.
    keepalive_local : Setting of bool
        A kept connection is used by the location that opened it only.
    keepalive_timeout_ns : Setting of int
        [ns] How long one is kept idle; -1: until the upstream closes it.
    keepalive_requests : Setting of int
        Requests after which one is closed; -1: no limit.
    keepalive_time_ns : Setting of int
        [ns] Age at which one is closed; -1: no limit.
    source : str
        ``file:line``; of the first proxy_pass where the block is `implicit`.
    implicit : bool
        There is no such block: a proxy_pass names the address itself.
    """

    name: str
    servers: tuple[Server, ...]
    method: Setting[str]
    zone: Setting[str]
    keepalive: Setting[int]
    keepalive_local: Setting[bool]
    keepalive_timeout_ns: Setting[int]
    keepalive_requests: Setting[int]
    keepalive_time_ns: Setting[int]
    source: str
    implicit: bool = False

    @property
    def is_lua(self) -> bool:
        """Whether a program picks the peers (OpenResty's balancer_by_lua) from elsewhere; the servers do not count."""
        return self.method.value.startswith("balancer_by_lua")

    @property
    def is_single(self) -> bool | None:
        """Whether nginx has one address and no backup, and so never counts a failure; None if a name hides how many.

        A server that is down counts as an address (ngx_http_upstream_init_round_robin).
        """
        if len(self.servers) != 1:
            return False
        (server,) = self.servers
        if server.endpoint is None and not server.address.startswith("unix:"):
            return None
        return not server.backup


@dataclass(frozen=True, slots=True)
class Location:
    r"""A place in the configuration that passes requests on.

    Attributes
    ----------
    path : str
        Arguments of the location block, such as ``/api/`` or ``~ \.php$``; empty outside of one.
    server_names, listens : tuple of str
        Of the server block around it.
    module : str
        ``proxy``, ``fastcgi``, ``uwsgi``, ``scgi`` or ``grpc``: the prefix of its directives.
    target : Setting of str
        As written.
    upstream : str
        Name of the block that the target means, an implicit one included; empty if variables decide.
    http_version : Setting of str
        ``1.0``, ``1.1`` or ``2``; empty for other protocols.
    connection : Setting of str
        The Connection field that goes to the upstream; empty: none is sent.
    reuse : Setting of bool
        Whether its connections may be kept for further requests at all.
    next_upstream : Setting of tuple of str
        Conditions under which another peer is tried.
    next_upstream_tries : Setting of int
        Most tries; 0: as many as there are peers.
    next_upstream_timeout_ns : Setting of int
        [ns] Time after which no further try begins; 0: no limit.
    connect_timeout_ns, send_timeout_ns, read_timeout_ns : Setting of int
        [ns] As named.
    buffering, request_buffering : Setting of bool
        As named.
    buffer_size_bytes : Setting of int
        [bytes] Room for the head of a response.
    buffers : Setting of tuple of int
        Number and size [bytes] of the buffers for the rest.
    source : str
        ``file:line`` of the directive that passes requests on.
    """

    path: str
    server_names: tuple[str, ...]
    listens: tuple[str, ...]
    module: str
    target: Setting[str]
    upstream: str
    http_version: Setting[str]
    connection: Setting[str]
    reuse: Setting[bool]
    next_upstream: Setting[tuple[str, ...]]
    next_upstream_tries: Setting[int]
    next_upstream_timeout_ns: Setting[int]
    connect_timeout_ns: Setting[int]
    send_timeout_ns: Setting[int]
    read_timeout_ns: Setting[int]
    buffering: Setting[bool]
    request_buffering: Setting[bool]
    buffer_size_bytes: Setting[int]
    buffers: Setting[tuple[int, int]]
    source: str


@dataclass(frozen=True, slots=True)
class LogFormat:
    """A log_format: its name, its text in one piece, and ``default``, ``json`` or ``none`` for escaping."""

    name: str
    text: str
    escape: str
    source: str


@dataclass(frozen=True, slots=True)
class AccessLog:
    """An access_log: the path as written, and the name of its format."""

    path: str
    format_name: str
    source: str


@dataclass(frozen=True, slots=True)
class ErrorLog:
    """An error_log: the path as written, and the least level that it gets."""

    path: str
    level: Setting[str]
    source: str


@dataclass(frozen=True, slots=True)
class ConfNote:
    """Something in the configuration that could not be read or used; `source` is ``file:line`` or a file."""

    source: str
    text: str


@dataclass(frozen=True, slots=True)
class OwnServer:
    """One server of a proxy that is not of nginx's kin, and what holds for it.

    Attributes
    ----------
    block, name : str
        As a log names them: backend and server of HAProxy; balancer or path, and URL, of Apache.
    address : str
        Address and port as a log has them.
    endpoint : tuple of int or None
        Of a literal address; None for a name or a socket file.
    port : int
        -1 if there is none.
    reuse : Setting of bool
        Whether idle connections to it are kept for further requests.
    pool_limit_ns : Setting of int
        [ns] How long an idle connection is used again; -1: without a limit.
    connect_timeout_ns, read_timeout_ns : Setting of int
        [ns] As named; -1: without a limit.
    retry_on : Setting of tuple of str
        Conditions under which a request is sent once more.
    rewrites : bool
        Whether requests may reach it with another target than clients sent.
    settings : tuple of (str, Setting of str)
        Name and value, in its own words, of all that decides about its connections.
    source : str
        ``file:line``.
    """

    block: str
    name: str
    address: str
    endpoint: Endpoint | None
    port: int
    reuse: Setting[bool]
    pool_limit_ns: Setting[int]
    connect_timeout_ns: Setting[int]
    read_timeout_ns: Setting[int]
    retry_on: Setting[tuple[str, ...]]
    rewrites: bool
    settings: tuple[tuple[str, Setting[str]], ...]
    source: str


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """Everything that was read from one configuration.

    Attributes
    ----------
    kind : ProxyKind
        Whose configuration it is.
    version : str
        Version of the proxy (nginx: of the nginx inside), as far as known; empty otherwise.
    path : str
        The file that was given.
    upstreams : tuple of UpstreamBlock
        Implicit ones last.
    locations : tuple of Location
        In the order of the configuration.
    log_formats : tuple of LogFormat
        In the order of the configuration.
    access_logs : tuple of AccessLog
        In the order of the configuration.
    error_logs : tuple of ErrorLog
        In the order of the configuration; the default one is assumed. Empty for a proxy whose settings are not read.
    worker_processes : Setting of str
        A number or ``auto``.
    shutdown_timeout_ns : Setting of int
        [ns] After which a reload ends old workers that still have requests; -1: never.
    notes : tuple of ConfNote
        What could not be read or used.
    services : mapping of str to str
        From an endpoint to the address that the configuration has for it, where logs told (NAT).
    own : tuple of OwnServer
        Servers of a proxy that is not of nginx's kin, with its settings in its own words; then there are no blocks and
        locations.
    """

    kind: ProxyKind
    version: str
    path: str
    upstreams: tuple[UpstreamBlock, ...]
    locations: tuple[Location, ...]
    log_formats: tuple[LogFormat, ...]
    access_logs: tuple[AccessLog, ...]
    error_logs: tuple[ErrorLog, ...]
    worker_processes: Setting[str]
    notes: tuple[ConfNote, ...]
    services: Mapping[str, str] = field(default_factory=dict)
    own: tuple[OwnServer, ...] = ()
    shutdown_timeout_ns: Setting[int] = field(default=Setting(-1, assumed=True, why="default of nginx"))

    def servers_of(self, peer: Endpoint | str) -> tuple[OwnServer, ...]:
        """Return the servers of `own` that a peer may be: by its address, by its name in a log, else by its port."""
        if not self.own:
            return ()
        known = self.services.get(peer, "") if isinstance(peer, str) else ""
        try:
            point = parse_endpoint(peer) if isinstance(peer, str) else peer
        except ValueError:
            return ()
        named = (s for s in self.own if known and known in {f"{s.block}/{s.name}", s.address})
        return (
            tuple(s for s in self.own if s.endpoint == point)
            or tuple(named)
            or tuple(s for s in self.own if s.endpoint is None and s.port == point[2])
        )

    def waits_for(self, peer: Endpoint | str, wait: str) -> frozenset[int]:
        """Return how long [ns] the proxy may wait for a peer: ``connect``, ``send`` or ``read``; none if not known."""
        return frozenset(held.value for held in self.waits_held(peer, wait))

    def waits_held(self, peer: Endpoint | str, wait: str) -> tuple[Setting[int], ...]:
        """Return the settings of `waits_for`, with where each was read."""
        if self.own:
            name = "connect_timeout_ns" if wait == "connect" else "read_timeout_ns"
            return tuple(getattr(server, name) for server in self.servers_of(peer))
        places = self.locations_of(self.blocks_of_peer(peer))
        return tuple(getattr(place, f"{wait}_timeout_ns") for place in places)

    def own_ports(self) -> frozenset[int]:
        """Return the ports at which the proxy itself, and none of its servers, answers; none where it is not read."""
        at = {_port_of(listen) for place in self.locations for listen in place.listens}
        return frozenset(at - {server.port for block in self.upstreams for server in block.servers} - {-1})

    def addresses(self) -> dict[str, str]:
        """Return the addresses of servers that a log only names, by the names that it has for them."""
        return {f"{server.block}/{server.name}": server.address for server in self.own if server.endpoint is not None}

    def block(self, name: str) -> UpstreamBlock | None:
        """Return the block of this name, None if there is none."""
        return next((block for block in self.upstreams if block.name == name), None)

    def blocks_of_peer(self, peer: Endpoint | str) -> tuple[UpstreamBlock, ...]:
        """Return the blocks that hold a peer.

        Parameters
        ----------
        peer : tuple of int or str
            The endpoint, or its text ``10.0.0.1:80``; as in a log, a socket file may stand here.

        Returns
        -------
        tuple of UpstreamBlock
            Blocks with this very address. If there are none, those with a name that may mean it, for the port is the
            same; if there are none of these either, those that pick their peers in Lua.
        """
        if isinstance(peer, str):
            peer = self.services.get(peer, peer)
            if peer.startswith("unix:"):
                socket_file = peer.rstrip(":")
                return self._with(lambda server: server.address.rstrip(":") == socket_file)
            try:
                peer = parse_endpoint(peer)
            except ValueError:
                return ()
        return (
            self._with(lambda server: server.endpoint == peer)
            or self._with(lambda server: server.endpoint is None and server.port == peer[2])
            or tuple(block for block in self.upstreams if block.is_lua)
        )

    def locations_of(self, blocks: Iterable[UpstreamBlock]) -> tuple[Location, ...]:
        """Return the locations that pass requests to any of these blocks; one whose target is a variable may, too."""
        names = {block.name for block in blocks}
        sure = tuple(place for place in self.locations if place.upstream in names)
        return sure or tuple(place for place in self.locations if not place.upstream)

    def log_format(self, name: str) -> LogFormat | None:
        """Return the format of this name, None if there is none."""
        return next((known for known in self.log_formats if known.name == name), None)

    def _with(self, fits: Callable[[Server], bool]) -> tuple[UpstreamBlock, ...]:
        return tuple(block for block in self.upstreams if any(fits(server) for server in block.servers))


def _port_of(listen: str) -> int:
    """Return the port of what nginx's ``listen`` takes, 80 if it names none (ngx_http_core_listen); -1 of a socket."""
    if listen.startswith("unix:"):
        return -1
    named = _PORT.search(listen)
    return int(named[1]) if named else 80
