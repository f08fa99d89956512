"""Tokens in every place that may hold one: a grammar of places, wrappings and kinds of tokens, each token once.

What is planted is known by its needle, which stands in nothing else. `find_shown` looks for needles in whatever was
written: in files, in archives, behind escapes, in Parquet, in databases.
"""

import base64
import hashlib
import html
import io
import itertools
import json
import re
import zipfile
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

from tests.ticket.evidence import scenes

_BYTE = re.compile(rb"\\+(?:x|u00)([0-9A-Fa-f]{2})")
MIXED, HEX, BASE64, JWT, WORD = "mixed", "hex", "base64", "jwt", "word"


@dataclass(frozen=True)
class Token:
    text: str
    needle: bytes
    place: str


class Mint:
    """Makes tokens and remembers where each was put."""

    def __init__(self):
        self.tokens = []
        self._numbers = itertools.count(1)

    def make(self, place, kind=MIXED):
        number = next(self._numbers)
        digest = hashlib.sha256(b"%d" % number).hexdigest()
        core = f"q{number:03d}Zk{digest[:10]}"
        if kind == JWT:
            part = base64.urlsafe_b64encode(f'{{"sub":"{core}"}}'.encode()).decode().rstrip("=")
            text, needle = f"eyJhbGciOiJIUzI1NiJ9.{part}.{digest[:20]}", part[12:]
        elif kind == BASE64:
            text = base64.b64encode(f"user-{core}:x"[: 20 + number % 3].encode()).decode()
            needle = text[:14]
        elif kind == HEX:
            text, needle = digest[:40], digest[:10]
        elif kind == WORD:
            text = "".join(chr(ord("a") + int(c, 16)) for c in digest[:14])
            needle = text[:8]
        else:
            text, needle = core, core[:8]
        self.tokens.append(Token(text, needle.encode(), f"{place} ({kind})"))
        return text


# Places in a target whose value is secret whatever it is; the wrappings escape all of it but the first slash.
TARGETS = {
    "query": "/a?token={}",
    "any query value": "/a?page={}",
    "second query value": "/a?x=1&y={}",
    "query without a key": "/a?{}",
    "second question mark": "/a?b=1?c={}",
    "fragment": "/a#access_token={}&state=1",
    "fragment behind a query": "/a?b=1#access_token={}",
    "fragment without a key": "/a#{}",
    "session in the path": "/a;jsessionid={}",
    "session in the middle": "/a;jsessionid={}/b",
    "parameter without a name": "/a;{}",
    "pair in the path": "/a/token={}/b",
    "key in the path": "/a/api_key={}",
    "colon in the path": "/a/api_key:{}/b",
    "any pair in the path": "/a/b={}",
    "pair behind a comma": "/a/x,sig={}/b",
    "announced segment": "/reset-password/{}",
    "announced segment in the middle": "/oauth/token/{}/info",
    "user of an absolute target": "http://user:{}@shop.example.test/a",
    "nested URL": "/go/https://user:{}@b.example.test/",
    "nested URL with one slash": "/go/https:/user:{}@b.example.test/",
    "nested URL without slashes": "/go/https:user:{}@b.example.test/",
    "nested query": "/go?to=https://b.example.test/?code={}",
    "user with a slash": "/go/https://user:pa/{}@b.example.test/",
    "user alone": "/go/https://{}@b.example.test/x",
    "user with a question mark": "/go/https://user:{}?x@b.example.test/",
    "user with a hash": "/go/https://user:{}#x@b.example.test/",
    "FTP": "/go/ftp://user:{}@b.example.test",
}
TOKENS_ANYWHERE = {"segment": "/share/{}/x", "file": "/share/{}", "behind a dot": "/x.{}"}

FIELDS = {
    "Authorization": "Bearer {}",
    "Proxy-Authorization": "Basic {}",
    "Cookie": "theme=dark; sid={}",
    "X-Api-Key": "{}",
    "X-Nobody-Heard-Of-It": "{}",
    "X-Original-URL": "/b#access_token={}",
    "X-Rewrite-URL": "/b;jsessionid={}",
    "X-Accel-Redirect": "/b?t={}",
    "X-Forwarded-Uri": "/token={}/b",
    "Referer": "https://a.example.test/x#access_token={}",
    "Origin": "https://user:{}@a.example.test",
    "Destination": "https:/user:{}@a.example.test/",
    "Via": "1.1 proxy?token={}",
    "via": "1.1 proxy (token {})",
    "Forwarded": "for=10.0.0.1;host=a.example.test?token={}",
    "forwarded": "for=10.0.0.1;secret={}",
    "X-Forwarded-For": "10.0.0.1, {}",
    "X-Forwarded-Host": "a.example.test?token={}",
    "x-forwarded-host": "user:{}@a.example.test",
    "X-Forwarded-Proto": "https {}",
    "X-Real-IP": "{}",
    "Cache-Control": 'max-age=0, private="{}"',
    "cache-control": "community={}",
    "Pragma": "no-cache, x={}",
    "Accept": "text/html;token={}",
    "accept": "{}",
    "Accept-Language": "en;x={}",
    "Accept-Encoding": "gzip, {}",
    "Content-Type": "multipart/form-data; boundary={}",
    "content-type": "text/plain; key={}",
    "Content-Disposition": 'form-data; name="{}"',
    "User-Agent": "curl/8.5.0 {}",
    "user-agent": "Mozilla/5.0 (token={})",
    "Keep-Alive": "timeout=5, key={}",
    "Expect": "{}",
    "Range": "bytes=0-1, {}",
    "If-Modified-Since": "{}",
    "Date": "Sun, 06 Nov 1994 08:49:37 GMT; {}",
    "Max-Forwards": "{}",
    "TE": "trailers, {}",
    "Trailer": "{}",
    "Upgrade": "{}",
    "Warning": '199 - "{}"',
    "X-Request-ID": "a?token={}",
    "x-request-id": "{}",
    "X-{}": "1",
    "Folded": "a\r\n b {}",
    "Set-Cookie": "sid={}; Path=/",
    "Location": "/done#id_token={}",
    "Content-Location": "/done?x={}",
    "Server": "nginx?token={}",
    "X-Powered-By": "PHP/8.1 {}",
    "Alt-Svc": 'h3=":443"; token="{}"',
    "alt-svc": "h2={}",
    "ETag": '"{}"',
    "Age": "{}",
    "Allow": "GET, {}",
    "Vary": "{}",
    "X-Cache": "HIT {}",
    "X-Upstream-Addr": "10.0.0.1:80?x={}",
    "X-Runtime": "{}",
    "Retry-After": "{}",
    "Strict-Transport-Security": "max-age=1; x={}",
    "WWW-Authenticate": 'Digest nonce="{}"',
}
FIELD_KINDS = {"x-request-id": JWT, "user-agent": MIXED}
HOSTS = {
    "user": "user:{}@shop.example.test",
    "user alone": "{}@shop.example.test",
    "query": "shop.example.test?token={}",
    "path": "shop.example.test/{}",
    "fragment": "shop.example.test#{}",
    "port": "shop.example.test:{}",
    "escaped": "user%3A{}%40shop.example.test",
    "escaped twice": "user%253A{}%2540shop.example.test",
}
CLOSED = "upstream prematurely closed connection while reading response header from upstream"
# What the entry says, the request line, the URL of the upstream, and what follows.
LINES = {
    "request": (CLOSED, "GET /a?token={} HTTP/1.1", "http://10.9.0.1:80/a?token={}", 'host: "shop.example.test"'),
    "fragment": (CLOSED, "GET /a#access_token={} HTTP/1.1", "http://10.9.0.1:80/a#t={}", 'host: "user:{}@x"'),
    "path": (CLOSED, "GET /b={} HTTP/1.1", "http://user:{}@10.9.0.1:80/b={}", 'host: "x?k={}"'),
    "referrer": (
        CLOSED,
        "GET / HTTP/1.1",
        "http://10.9.0.1:80/",
        'referrer: "https:/u:{}@a.example.test/;jsessionid={}"',
    ),
    "no request": (CLOSED, "{} /", "http://10.9.0.1:80/", 'host: "x"'),
    "header": ('upstream sent invalid header: "X-Weird: {}"', "GET / HTTP/1.1", "http://10.9.0.1:80/", 'host: "x"'),
    "lua": (f"[lua] a.lua:1: Authorization: Bearer {{}}, {CLOSED}", "GET / HTTP/1.1", "http://10.9.0.1:80/?a={}", ""),
    "blank in a request": (CLOSED, "GET /a?q=a {} HTTP/1.1", "http://10.9.0.1:80/a?q=a {}", 'host: "x"'),
    "PHP": (
        'FastCGI sent in stderr: "PHP message: DB_PASSWORD={} api_key: {}" while reading response header from upstream',
        "GET / HTTP/1.1",
        "fastcgi://10.9.0.1:80",
        'host: "x"',
    ),
}
CONFIGURATION = """\
http {{
  upstream orders {{ server 10.9.0.1:80; keepalive 32; keepalive_timeout 60s; }}
  server {{
    location / {{
      proxy_pass http://orders/?token={};
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Authorization "Basic {}";
      proxy_set_header X-Api-Key {};
      set $secret {};
      fastcgi_param DB_PASSWORD {};
    }}
  }}
}}
"""
READABLE = ("/orders/7/items", "/files/3f2b8c1e-5d4a-4c3b-9a2f-1e0d9c8b7a6f", "shop.example.test", "req-0017-abc")


def escaped(template, times):
    """Return a template for targets with everything behind its first slash escaped, the place for the token kept."""
    before, token, after = template.partition("{}")
    head, before = before[:1], before[1:]
    for _ in range(times):
        before, after = quote(before, safe=""), quote(after, safe="")
    return f"{head}{before}{token}{after}"


def targets(mint):
    """Return targets, each with a token."""
    made = []
    for place, template in TARGETS.items():
        kinds = (MIXED, BASE64, WORD, HEX) if place == "query without a key" else (MIXED, BASE64)
        for kind in kinds:
            token = mint.make(f"target: {place}", kind)
            if "@" in template:
                token = token.replace("/", "_")
            made.append(template.format(token))
        if template.startswith("/"):
            made += [
                escaped(template, times).format(mint.make(f"target: {place}, escaped {times} times"))
                for times in (1, 2, 3)
            ]
    for place, template in TOKENS_ANYWHERE.items():
        made.append(template.format(mint.make(f"target: {place}", JWT)))
        made.append(escaped(template, 1).format(mint.make(f"target: {place}, escaped", JWT)))
    every_byte = "".join(f"%{b:02X}" for b in mint.make("target: every byte of the token escaped").encode())
    made.append(f"/a/token%3D{every_byte}")
    made.append("/a/upload/" + mint.make("target: a key that is a key", HEX))
    return made


def connections(mint):
    """Yield request and response of each connection; the second request is lost."""
    wanted = targets(mint)
    for target in wanted:
        yield request(target), response(200, "OK")
    for place, template in HOSTS.items():
        yield request("/", host=template.format(mint.make(f"host: {place}"))), response(200, "OK")
    for name, value in FIELDS.items():
        kind = FIELD_KINDS.get(name, MIXED)
        lines = [f"{name}: {value}".format(mint.make(f"field {name}", kind))]
        answer = [f"{name}: {value}".format(mint.make(f"response {name}", kind))]
        yield request("/", fields=lines), response(200, "OK", answer)
    for reason in ("token={}", "OK {}", "{}"):
        yield request("/"), response(500, reason.format(mint.make(f"reason {reason}")))
    yield request("/"), response(503, "x", [f"Server: {mint.make('server of an error')}"])
    yield request("/"), response(503, "x", [f"Server: nginx/1.2 user:{mint.make('server of an error')}@x"])
    yield request("/", method=mint.make("method", WORD).upper()), response(200, "OK")
    yield request("/", body=mint.make("body").encode()), response(200, "OK", body=mint.make("body").encode())
    chunked = (
        f"5;ext={mint.make('chunk extension')}\r\nhello\r\n0\r\nX-Trailer: {mint.make('trailer')}\r\n\r\n".encode()
    )
    yield request("/"), response(200, "OK", ["Transfer-Encoding: chunked"], raw=chunked)
    for payload in (
        f"GET /{mint.make('request without a version')}?a=1\r\n",
        f"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{mint.make('HTTP/2 preface')}",
        f"*2\r\n$4\r\nAUTH\r\n$17\r\n{mint.make('Redis')}\r\n",
        f"p\0\0\0\x20{mint.make('PostgreSQL')}\0",
        f"\x20\0\0\1{mint.make('MySQL')}\0",
        f"\0\x1e\0\0\4\0AUTH{mint.make('uwsgi')}",
        f"\1\1\0\1\0\x08\0\0\0\1\0\0\0\0\0\0\1\4\0\1\0\x15\0\0\4\x0fAUTH{mint.make('FastCGI')}",
    ):
        yield payload.encode("latin-1"), b"+OK\r\n"
    yield request("/" + READABLE[0][1:]), response(200, "OK", ["Server: nginx/1.22.1", "Keep-Alive: timeout=5"])
    yield request(READABLE[1], fields=["X-Request-ID: req-0017-abc"]), response(200, "OK")


def request(target, *, host="shop.example.test", fields=(), method="GET", body=b""):
    fields = [*fields, f"Content-Length: {len(body)}"] if body else fields
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *fields, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def response(status, reason, fields=(), body=b"", raw=b""):
    fields = fields if raw else [*fields, f"Content-Length: {len(body)}"]
    return "\r\n".join([f"HTTP/1.1 {status} {reason}", *fields, "", ""]).encode("latin-1") + (raw or body)


def plant(folder):
    """Write a capture, logs and a configuration full of tokens; return them by name, and the tokens."""
    mint = Mint()
    races = [
        scenes.race(conn=number, start_ns=number * 2_000_000, request=sent, response=answer)
        for number, (sent, answer) in enumerate(connections(mint))
    ]
    files = {
        "capture": folder / f"proxy;token={mint.make('name of the capture')}.pcap",
        "error_log": folder / f"error-api_key={mint.make('name of the log')}.log",
        "access_log": folder / "access.log",
        "upstream_log": folder / "app.log",
        "configuration": folder / "nginx.conf",
    }
    scenes.write(files["capture"], scenes.in_time(*races))
    lines = []
    for number, (place, (what, sent, upstream, more)) in enumerate(LINES.items()):
        line = f'{what}, client: 10.9.0.7, server: _, request: "{sent}", upstream: "{upstream}", {more}'
        tokens = [mint.make(f"error log: {place}") for _ in range(line.count("{}"))]
        lines.append(f"2023/11/14 22:13:{24 + number % 4} [error] 7#7: *{number + 1} {line.format(*tokens)}\n")
    files["error_log"].write_text("".join(lines))
    files["access_log"].write_text(
        "".join(
            f'10.9.0.7 - {mint.make("access log: user")} [14/Nov/2023:22:13:24 +0000] "GET {target} HTTP/1.1" 502 157 '
            f'"https://a.example.test/#t={mint.make("access log: referrer")}" '
            f'"curl/8 {mint.make("access log: agent")}"\n'
            for target in targets(mint)[::20]
        )
    )
    files["upstream_log"].write_text(
        "".join(
            json.dumps(
                {
                    "time": f"2023-11-14T22:13:{24 + number}Z",
                    "method": "GET",
                    "path": f"/a?token={mint.make('upstream log: path')}",
                    "status": 200,
                    "authorization": f"Bearer {mint.make('upstream log: authorization')}",
                    "cookie": f"sid={mint.make('upstream log: cookie')}",
                }
            )
            + "\n"
            for number in range(4)
        )
    )
    text = CONFIGURATION.format(*(mint.make("configuration", kind) for kind in (MIXED, BASE64, MIXED, MIXED, MIXED)))
    files["configuration"].write_text(text)
    return files, mint.tokens


def find_shown(name, content, needles):
    """Yield every part of what was written in which a needle stands, and the needle."""
    for part, data in parts_of(name, content):
        for form in forms_of(data):
            for needle in needles:
                if needle in form:
                    yield part, needle


def forms_of(data):
    """Yield bytes as they are, and without the escapes of URLs, HTML and JSON."""
    yield data
    if b"%" in data:
        plain = data
        for _ in range(3):
            plain = unquote_to_bytes(plain)
        yield plain
    if b"&" in data:
        yield html.unescape(data.decode("latin-1")).encode("utf-8", "replace")
    if b"\\u" in data or b"\\x" in data:
        yield _BYTE.sub(lambda m: bytes([int(m[1], 16)]), data)


def parts_of(name, content):
    """Yield what was written, and what it is made of."""
    yield name, content
    if content[:4] == b"PK\3\4":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            yield f"{name}: names", "\n".join(archive.namelist()).encode()
            for member in archive.namelist():
                yield from parts_of(f"{name}/{member}", archive.read(member))
    elif content[:4] == b"PAR1":
        import pyarrow.parquet as pq

        table = pq.read_table(io.BytesIO(content))
        yield f"{name}: rows", "\n".join(map(str, table.to_pylist())).encode("utf-8", "replace")
