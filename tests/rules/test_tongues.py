"""Nobody's words for anybody else: each proxy and each server is spoken to in its own language, by every rule."""

import re
from dataclasses import replace
from functools import cache

import pytest

from pcapdiag.analysis.inputs import Inputs
from pcapdiag.analysis.model import IdleTimeout
from pcapdiag.api.analyze import analyze_captures
from pcapdiag.base.codes import Protocol
from pcapdiag.privacy.redact import Redactor
from pcapdiag.proxy.conf.settings import ProxyKind
from pcapdiag.rules._dialect import proxy_kind
from pcapdiag.rules._remedy import keepalive_remedy
from pcapdiag.rules._tls_words import tls_words
from pcapdiag.rules.diagnose import diagnose
from tests.rules.builders import MS, Scene
from tests.rules.scenes import SCENES
from tests.test_cases import CASES, NAMES, case_of

_INSIDE_NGINX = frozenset({ProxyKind.NGINX, ProxyKind.APISIX, ProxyKind.INGRESS_NGINX, ProxyKind.KONG})
_MODULES = r"(?:proxy|fastcgi|uwsgi|scgi|grpc)"
WORDS = (
    (
        _INSIDE_NGINX,
        (
            rf"nginx|\b{_MODULES}_\w+|keepalive_timeout|keepalive_requests|max_fails|fail_timeout|upstream block"
            r"|client_max_body_size|client_header_timeout|worker_shutdown_timeout|upstream prematurely closed"
            r"|no live upstreams|upstream timed out|upstream sent|error\.log|\$upstream_\w+|\b000\b"
        ),
    ),
    ({*_INSIDE_NGINX, ProxyKind.TRAEFIK}, r"status 499|\(499\)|(?<!\d)499(?! m?s)(?![,.\d])"),
    ({ProxyKind.HAPROXY}, r"HAProxy|timeout (?:server|connect)\b|http-reuse|pool-purge-delay|retry-on|srvtcpka"),
    (
        {ProxyKind.APACHE},
        r"Apache|ProxyTimeout|ProxyPass|BalancerMember|\bttl\b|disablereuse|\bAH\d|initial-not-pooled|connectiontimeout",
    ),
    ({ProxyKind.ENVOY}, r"Envoy|common_http_protocol_options|retry_policy|response flag|\bcluster\b"),
    ({ProxyKind.CADDY}, r"Caddy|transport http|lb_\w+|dial_timeout|response_header_timeout"),
    ({ProxyKind.TRAEFIK}, r"Traefik|serversTransport|forwardingTimeouts"),
    ({ProxyKind.ALB}, r"\bALB\b|idle_timeout\.timeout_seconds|status 460|target group"),
    ({ProxyKind.CLB}, r"\bCLB\b"),
    ({ProxyKind.GCP}, r"\bGCP\b|timeoutSec|statusDetails|backend service"),
)
_EXAMPLE = {
    None: re.compile(
        r"\((?:[^()]*; )?in nginx:? [^()]*\)|; in nginx, [^.]*|^The same setting elsewhere.*$", re.MULTILINE
    ),
    ProxyKind.NGINX: re.compile(r"^The same setting elsewhere.*$", re.MULTILINE),
}
"""What is named as another's, or as an example because nothing tells what the proxy is, says nothing false."""
SERVERS = {
    "gunicorn": r"gunicorn",
    "php": r"php-fpm|pm\.max_requests|request_terminate_timeout",
    "uwsgi": r"uWSGI|harakiri",
    "nginx": r"nginx (?:reloads|as upstream)|keepalive_min_timeout|client_header_timeout",
    "apache": r"RequestReadTimeout|MaxConnectionsPerChild",
}


def test_the_words_of_every_proxy_are_known():
    assert set().union(*(kinds for kinds, _ in WORDS)) == set(ProxyKind)


def said(finding):
    """Yield whatever a finding says."""
    yield from (finding.title, finding.message, finding.remedy, finding.refuted_by)
    for occurrence in finding.occurrences:
        yield occurrence.upstream_log
        for evidence in occurrence.evidence:
            yield from (evidence.label, evidence.text)


@cache
def texts(kind, server):
    """Return what every scene makes the rules say before one kind of proxy, by (scene, code)."""
    found = []
    for name, (build, _, settings) in SCENES.items():
        s = Scene()
        losses = [replace(x, connection=replace(x.connection, server=server)) for x in build(s)]
        given = {"upstream": s.upstream(server_field=server), "proxy_kind": kind} | settings
        if "truncated" in given:
            given["truncated"] = [
                replace(x, connection=replace(x.connection, server=server)) for x in given["truncated"]
            ]
        diagnosis = diagnose(s.analysis(*losses, **given))
        found += [(name, f.code, text) for f in diagnosis.findings for text in said(f) if text]
        found += [(name, v.code, v.reason) for v in diagnosis.verdicts if v.reason]
    return tuple(found)


def foreign_to(kind):
    return re.compile("|".join(words for kinds, words in WORDS if kind not in kinds))


@pytest.mark.parametrize("kind", [*ProxyKind, None])
@pytest.mark.parametrize("server", ["", "uvicorn"])
def test_no_proxy_is_spoken_to_in_the_language_of_another(kind, server):
    wrong = {
        (code, match[0])
        for _, code, text in texts(kind, server)
        for match in foreign_to(kind).finditer(_EXAMPLE[kind].sub("", text) if kind in _EXAMPLE else text)
    }
    assert wrong == set()


@cache
def captured(name):
    """Return what the capture of a case and its logs hold."""
    case = case_of(name)
    keys = {"error-log": "error_logs", "access-log": "access_logs"}
    inputs = {}
    for key, files in case.get("logs", {}).items():
        named = [str(CASES / name / file) for file in ([files] if isinstance(files, str) else files)]
        if key in keys:
            inputs[keys[key]] = tuple(named)
        elif key == "proxy-conf":
            (inputs["proxy_conf"],) = named
    return analyze_captures([str(CASES / name / c) for c in case["captures"]], Inputs(**inputs)).analysis


def of_diagnosis(analysis):
    diagnosis = diagnose(analysis)
    yield from ((f.code, text) for f in diagnosis.findings for text in said(f) if text)
    yield from ((v.code, v.reason) for v in diagnosis.verdicts if v.reason)


@pytest.mark.parametrize("name", NAMES)
def test_no_case_is_told_to_a_proxy_in_the_language_of_another(name):
    own = captured(name)
    wrong = set()
    for kind in (*ProxyKind, None):
        # Lines of a log are quoted: they stand only before whom wrote them.
        is_own = kind is proxy_kind(own)
        analysis = own if is_own else replace(own, settings=None, log=None, proxy_kind=kind)
        servers = {u.server_field.split("/")[0].lower() for u in analysis.upstreams}
        for code, text in of_diagnosis(analysis):
            plain = _EXAMPLE[kind].sub("", text) if kind in _EXAMPLE else text
            # The server's own settings are named with it.
            for server in servers & {"nginx", "apache"}:
                plain = re.sub(rf"\b{server} \w+", "", plain, flags=re.IGNORECASE)
            wrong |= {(kind and kind.value, code, match[0]) for match in foreign_to(kind).finditer(plain)}
    assert wrong == set()


@pytest.mark.parametrize("kind", [None, *ProxyKind])
def test_no_advice_looks_like_a_secret(kind):
    """What leaves is redacted: a URL in advice lost its end, and the quote behind it."""
    redactor = Redactor()
    said = [(name, code, text) for name, code, text in texts(kind, "")]
    assert [(name, code, text) for name, code, text in said if redactor.text(text) != text] == []
    assert [words for words in tls_words(Scene().analysis(proxy_kind=kind)) if redactor.text(words) != words] == []


@pytest.mark.parametrize("own", [None, *SERVERS])
def test_no_server_is_spoken_of_in_the_language_of_another(own):
    """Its Server field tells, or its protocol; where neither does, no server is named at all."""
    field = {None: "", "php": "", "uwsgi": "", "nginx": "nginx/1.22.1", "apache": "Apache/2.4"}.get(own, own)
    protocols = {"php": Protocol.FASTCGI, "uwsgi": Protocol.UWSGI}
    others = re.compile("|".join(words for server, words in SERVERS.items() if server != own))
    wrong = set()
    for kind in (ProxyKind.HAPROXY, ProxyKind.NGINX, None):
        for name, (build, _, settings) in SCENES.items():
            s = Scene()
            changes = {"server": field}
            losses = build(s)
            if own in protocols and all(x.connection.protocol is Protocol.HTTP1 for x in losses):
                changes["protocol"] = protocols[own]
            losses = [replace(x, connection=replace(x.connection, **changes)) for x in losses]
            given = {"upstream": s.upstream(server_field=field), "proxy_kind": kind} | settings
            for code, text in of_diagnosis(s.analysis(*losses, **given)):
                wrong |= {(name, code, match[0]) for match in others.finditer(text)}
    assert wrong == set()


@pytest.mark.parametrize(("field", "words"), [("", ", if it is that)"), ("gunicorn", "(gunicorn --keep-alive)")])
def test_a_default_does_not_say_which_server_it_is(field, words):
    s = Scene()
    measured = IdleTimeout(2_000 * MS, 5 * MS, 12, 2, ("Gunicorn",))
    upstream = replace(s.upstream(2_000.0, server_field=field), idle_timeout=measured)
    remedy = keepalive_remedy(s.analysis(upstream=upstream, proxy_kind=ProxyKind.HAPROXY), upstream, ()).text
    assert words in remedy
