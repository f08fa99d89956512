"""Facts about reading nginx.conf."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.base.errors import UsageError
from pcapdiag.base.units import parse_endpoint
from pcapdiag.proxy.conf.read import read_proxy_conf
from pcapdiag.proxy.conf.settings import ProxyKind, Setting

ALSO_TESTS = ("nginx_defaults", "nginx_source")

S = 1_000_000_000


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Return a function that writes files and reads the first of them by its name alone."""
    monkeypatch.chdir(tmp_path)

    def _read(text, *, version="", **others):
        for name, content in {"nginx.conf": text, **others}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return read_proxy_conf("nginx.conf", version=version)

    return _read


BLOCK = """
upstream be {
    server 10.1.1.1:80 max_fails=3 fail_timeout=6s weight=5;
    server [2001:db8::1]:8080 backup;
    server app.internal down max_conns=7;
    server unix:/run/app.sock;
    zone be 64k;
    least_conn;
    keepalive 16 local;
    keepalive_timeout 1m 30s;
}
server {
    listen 80;
    server_name a.example b.example;
    proxy_read_timeout 5s;
    proxy_set_header Connection '';
    location /api/ {
        proxy_pass http://be/;
        proxy_http_version 1.1;
        proxy_next_upstream error timeout http_502 non_idempotent;
        proxy_next_upstream_tries 2;
        proxy_buffers 4 16k;
        proxy_buffering off;
    }
}
"""


def test_an_upstream_block_is_read_with_its_places(read):
    block = read(BLOCK.replace("1m 30s", "'1m 30s'")).block("be")
    assert block.source == "nginx.conf:2"
    assert block.method == Setting("least_conn", "nginx.conf:8")
    assert block.zone == Setting("be", "nginx.conf:7")
    assert block.keepalive == Setting(16, "nginx.conf:9")
    assert block.keepalive_local == Setting(value=True, source="nginx.conf:9")
    assert block.keepalive_timeout_ns == Setting(90 * S, "nginx.conf:10")
    assert block.keepalive_requests.assumed
    first, second, third, fourth = block.servers
    assert first.endpoint == parse_endpoint("10.1.1.1:80")
    assert (first.max_fails.value, first.fail_timeout_ns.value, first.weight.value) == (3, 6 * S, 5)
    assert first.max_fails.source == "nginx.conf:3"
    assert second.backup
    assert second.endpoint == parse_endpoint("[2001:db8::1]:8080")
    assert (third.endpoint, third.port, third.down, third.max_conns.value) == (None, 80, True, 7)
    assert (fourth.endpoint, fourth.port) == (None, -1)
    assert (fourth.max_fails.value, fourth.max_fails.assumed) == (1, True)


def test_a_location_inherits_and_says_from_where(read):
    (place,) = read(BLOCK).locations
    assert (place.path, place.server_names, place.listens) == ("/api/", ("a.example", "b.example"), ("80",))
    assert place.upstream == "be"
    assert place.read_timeout_ns == Setting(5 * S, "nginx.conf:15")
    assert place.connect_timeout_ns.value == 60 * S
    assert place.connect_timeout_ns.assumed
    assert place.next_upstream.value == ("error", "timeout", "http_502", "non_idempotent")
    assert place.next_upstream_tries.value == 2
    assert place.buffers.value == (4, 16384)
    assert place.buffering == Setting(value=False, source="nginx.conf:23")
    assert place.reuse.value


def test_a_value_that_cannot_be_read_is_noted_with_its_place(read):
    settings = read(BLOCK)
    assert [(n.source, n.text) for n in settings.notes] == [
        ("nginx.conf:10", "keepalive_timeout: 2 arguments, wants one")
    ]
    assert settings.block("be").keepalive_timeout_ns.assumed


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("1.14.2", (0, -1, -1, -1, "1.0")),
        ("1.15.3", (0, 60 * S, 100, -1, "1.0")),
        ("nginx/1.19.9", (0, 60 * S, 100, -1, "1.0")),
        ("openresty/1.21.4.1", (0, 60 * S, 1000, 3600 * S, "1.0")),
        ("1.29.6", (0, 60 * S, 1000, 3600 * S, "1.0")),
        ("1.29.7", (32, 60 * S, 1000, 3600 * S, "1.1")),
        ("", (0, 60 * S, 1000, 3600 * S, "1.0")),
    ],
)
def test_defaults_follow_the_version(read, version, expected):
    settings = read("upstream be { server 10.0.0.1; } server { location / { proxy_pass http://be; } }", version=version)
    block, place = settings.block("be"), settings.locations[0]
    found = (block.keepalive, block.keepalive_timeout_ns, block.keepalive_requests, block.keepalive_time_ns)
    assert (*(s.value for s in found), place.http_version.value) == expected
    assert all(s.assumed and s.why and not s.source for s in found)
    assert all(("not known" in s.why) == (not version) for s in found if "no limit in" not in s.why)


def test_the_pool_is_on_by_default_since_1_29_7(read):
    text = "upstream be { server 10.0.0.1; } server { location / { proxy_pass http://be; } }"
    assert not read(text, version="1.29.6").locations[0].reuse.value
    new = read(text, version="1.29.7")
    assert new.locations[0].reuse.value
    assert new.block("be").keepalive_local.value


def test_a_map_decides_the_connection_field_of_ordinary_requests(read):
    text = """map $http_upgrade $connection_upgrade { default upgrade; '' close; }
    server { location / { proxy_http_version 1.1; proxy_set_header Connection $connection_upgrade;
    proxy_pass http://10.0.0.1:8080; } }"""
    (place,) = read(text, version="1.29.7").locations
    assert place.connection.value == "close"
    assert "$connection_upgrade" in place.connection.why
    assert not place.reuse.value


def test_headers_of_an_inner_block_replace_those_outside(read):
    text = """server { proxy_http_version 1.1; proxy_set_header Connection "";
    location /a { proxy_pass http://10.0.0.1; }
    location /b { proxy_set_header Host $host; proxy_pass http://10.0.0.1; } }"""
    first, second = read(text).locations
    assert (first.connection.value, first.reuse.value) == ("", True)
    assert (second.connection.value, second.reuse.value) == ("close", False)


def test_an_address_in_proxy_pass_is_an_implicit_block(read):
    settings = read(
        "server { location /a { proxy_pass https://10.0.0.1/x; }"
        " location /b { proxy_pass http://[::1]:81$request_uri; }"
        " location /c { proxy_pass http://unix:/run/x.sock:/y; } location /d { proxy_pass http://$who; }"
        " location /e { proxy_pass http://app; } location /f { proxy_pass http://10.0.0.1; } }"
    )
    assert [place.upstream for place in settings.locations] == [
        "10.0.0.1",
        "[::1]:81",
        "unix:/run/x.sock",
        "",
        "app",
        "10.0.0.1",
    ]
    assert all(block.implicit for block in settings.upstreams)
    assert [block.servers[0].port for block in settings.upstreams] == [443, 81, -1, 80]
    assert [block.is_single for block in settings.upstreams] == [True, True, True, None]


def test_single_means_one_address_and_no_backup(read):
    settings = read(
        "upstream a { server 10.0.0.1; } upstream b { server 10.0.0.1; server 10.0.0.2 down; }"
        " upstream c { server localhost; }"
    )
    assert [block.is_single for block in settings.upstreams] == [True, False, None]


def test_a_peer_is_found_by_address_then_by_port_then_behind_lua(read):
    settings = read(
        "upstream a { server 10.0.0.1:81; } upstream b { server name:82; }"
        " upstream c { server 0.0.0.1; balancer_by_lua_block { x() } } upstream d { server unix:/s; }"
    )
    names = [
        [block.name for block in settings.blocks_of_peer(peer)]
        for peer in ("10.0.0.1:81", "10.0.0.2:82", "10.0.0.2:83", "unix:/s", "nonsense")
    ]
    assert names == [["a"], ["b"], ["c"], ["d"], []]


def test_fastcgi_keeps_connections_only_where_told(read):
    text = "server { location / { fastcgi_pass 127.0.0.1:9000; %s fastcgi_read_timeout 9s; } }"
    assert not read(text % "").locations[0].reuse.value
    (place,) = read(text % "fastcgi_keep_conn on;").locations
    assert place.reuse == Setting(value=True, source="nginx.conf:1")
    assert (place.module, place.read_timeout_ns.value) == ("fastcgi", 9 * S)


def test_logs_and_workers_are_read(read):
    settings = read(
        "worker_processes auto; error_log /e.log warn;\n"
        "http { log_format j escape=json '{\"a\":'\n '\\\"$msec\\\"}';\n access_log /a.log j buffer=4k; access_log off;"
        " server { access_log /b.log; error_log stderr; } }"
    )
    assert settings.worker_processes == Setting("auto", "nginx.conf:1")
    assert [(log.path, log.level.value, log.level.assumed) for log in settings.error_logs] == [
        ("/e.log", "warn", False),
        ("stderr", "error", True),
    ]
    assert [(log.path, log.format_name) for log in settings.access_logs] == [("/a.log", "j"), ("/b.log", "combined")]
    known = settings.log_format("j")
    assert (known.text, known.escape, known.source) == ('{"a":"$msec"}', "json", "nginx.conf:2")


def test_includes_keep_their_own_lines(read):
    settings = read(
        "http { include conf.d/*.conf; include /etc/nginx/more.conf; }",
        **{
            "conf.d/b.conf": "\nupstream b { server 10.0.0.2; }",
            "conf.d/a.conf": "upstream a { server 10.0.0.1; include keep.inc; }",
            "keep.inc": "\n\nkeepalive 9;",
            "more.conf": "upstream c { server 10.0.0.3; }",
        },
    )
    assert [block.source for block in settings.upstreams] == ["conf.d/a.conf:1", "conf.d/b.conf:2", "more.conf:1"]
    assert settings.block("a").keepalive.source == "keep.inc:3"
    assert settings.notes == ()


def test_what_lies_outside_the_folder_is_not_read(read, tmp_path):
    outside = tmp_path.parent / "outside.conf"
    outside.write_text("upstream stolen { server 10.0.0.1; }")
    (tmp_path / "link.conf").symlink_to(outside)
    settings = read(
        f"include {outside};\ninclude ../outside.conf;\ninclude link.conf;\ninclude /etc/*wd;\ninclude ../*.conf;"
    )
    assert settings.upstreams == ()
    assert [note.source for note in settings.notes] == [f"nginx.conf:{n}" for n in (1, 2, 3, 4)]


def test_an_include_that_names_no_possible_file_is_noted(read):
    settings = read(f"include {'a' * 5000};\ninclude {'a' * 5000}*;\ninclude '';\ninclude .;\ninclude **a;\ninclude [;")
    assert [note.source for note in settings.notes] == ["nginx.conf:1", "nginx.conf:3", "nginx.conf:4"]


def test_two_stars_search_no_deeper_than_one(read):
    assert read("include **.conf;", **{"a/b.conf": "upstream be { server 10.0.0.1; }"}).upstreams == ()
    found = read("include **/*.conf;", **{"a/b.conf": "upstream be { server 10.0.0.1; }", "a/b/c.conf": "x {}"})
    assert [block.source for block in found.upstreams] == ["a/b.conf:1"]


def test_a_relative_path_finds_what_an_absolute_include_names(read, tmp_path, monkeypatch):
    read(f"include {tmp_path}/a.conf;", **{"a.conf": "upstream be { server 10.0.0.1; }"})
    monkeypatch.chdir(tmp_path)
    assert [block.source for block in read_proxy_conf("nginx.conf").upstreams] == ["a.conf:1"]


def test_includes_that_never_end_are_noted(read):
    settings = read("include a.conf; include a.conf;", **{"a.conf": "include nginx.conf; include a.conf;"})
    assert {note.text.split(": ")[1] for note in settings.notes} == {
        "nginx.conf includes itself",
        "a.conf includes itself",
    }


def test_includes_that_multiply_are_bounded(read):
    files = {f"{n}.conf": f"include {n + 1}.conf; include {n + 1}.conf;" for n in range(30)}
    settings = read("include 0.conf;", **files)
    assert any("more than 2000 includes" in note.text for note in settings.notes)


def test_a_dump_of_nginx_t_is_read_by_the_names_in_it(read):
    settings = read(
        "nginx: the configuration file /etc/nginx/nginx.conf syntax is ok\n"
        "# configuration file /etc/nginx/nginx.conf:\n\nhttp {\n  include /etc/nginx/conf.d/*.conf;\n"
        "include /opt/x.conf; }\n\n"
        "# configuration file /etc/nginx/conf.d/a.conf:\nupstream a {\n  server 10.0.0.1;\n  keepalive 3;\n}\n\n"
        "# configuration file /opt/x.conf:\nupstream x { server 10.0.0.2; }\n"
    )
    assert settings.block("a").keepalive == Setting(3, "/etc/nginx/conf.d/a.conf:3")
    assert settings.block("x").source == "/opt/x.conf:1"
    assert settings.notes == ()


def test_a_missing_semicolon_is_noted_and_the_rest_is_read(read):
    settings = read("http { upstream be { server 10.0.0.1\n keepalive 3;\n }\n upstream ok { server 10.0.0.2; } }")
    assert settings.block("ok") is not None
    assert [(note.source, "keepalive" in note.text) for note in settings.notes] == [("nginx.conf:1", True)]
    ended = read("http { server { location / { proxy_pass http://a } } upstream ok { server 10.0.0.2; } }")
    assert ended.block("ok") is not None
    cut = read("http { upstream be { server 10.0.0.1;")
    assert [note.source for note in cut.notes] == ["nginx.conf:1"]


def test_lua_does_not_hide_the_rest(read):
    settings = read("exit_worker_by_lua_block { local s = '}}' -- {\n }\nupstream be { server 10.0.0.1; }")
    assert settings.block("be") is not None


def test_a_generated_configuration_names_its_maker(read):
    text = "upstream %s { server 0.0.0.1; balancer_by_lua_block { b() } }"
    kinds = [read(text % name).kind for name in ("upstream_balancer", "apisix_backend", "kong_upstream", "be")]
    assert kinds == [ProxyKind.INGRESS_NGINX, ProxyKind.APISIX, ProxyKind.KONG, ProxyKind.NGINX]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("proxy_buffering maybe;", "neither on nor off"),
        ("proxy_buffer_size 8q;", "not a size"),
        ("proxy_buffers 8;", "wants a number and a size"),
        ("proxy_buffers 8 much;", "not a size"),
        ("proxy_read_timeout 99999999999d;", "too long"),
        ("proxy_next_upstream_tries -1;", "not a number"),
        ("proxy_connect_timeout;", "0 arguments"),
    ],
)
def test_a_wrong_value_leaves_the_default(read, line, says):
    settings = read(f"location / {{ proxy_pass http://10.0.0.1;\n{line}\n}}")
    assert [(note.source, says in note.text) for note in settings.notes] == [("nginx.conf:2", True)], settings.notes
    (place,) = settings.locations
    changed = (
        place.buffering,
        place.buffer_size_bytes,
        place.buffers,
        place.read_timeout_ns,
        place.next_upstream_tries,
    )
    assert all(setting.assumed for setting in (*changed, place.connect_timeout_ns))


@pytest.mark.parametrize(
    ("module", "version", "reuse"),
    [("uwsgi", "", False), ("scgi", "", False), ("grpc", "2", True), ("proxy", "1.0", False)],
)
def test_each_module_has_its_own_rule_of_reuse(read, module, version, reuse):
    (place,) = read(f"location / {{ {module}_pass 10.0.0.1:80; {module}_read_timeout 3s; }}").locations
    assert (place.module, place.http_version.value, place.reuse.value) == (module, version, reuse)
    assert place.read_timeout_ns.value == 3 * S


@pytest.mark.parametrize(("content", "why"), [(None, "cannot open"), (b"\xd4\xc3\xb2\xa1\0\0", "--proxy-conf")])
def test_what_is_no_text_is_a_usage_error(tmp_path, content, why):
    path = tmp_path / "x.conf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=why):
        read_proxy_conf(path)


WORDS = (
    "upstream",
    "server",
    "be",
    "keepalive",
    "-1",
    "99999999999999999999",
    "proxy_pass",
    "http://",
    "$x",
    "include",
)
MORE_WORDS = ("map", "location", "if", "fail_timeout=", "log_format", "access_log", "10.0.0.1:80")
TOKENS = st.sampled_from((*"{}; \n'\"*/\\#\ufeff", *WORDS, *MORE_WORDS))


@given(st.lists(TOKENS, max_size=40).map(" ".join) | st.text(max_size=60).map(lambda t: t.replace("\0", "")))
def test_no_text_stops_the_reading(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "nginx.conf").write_text(f"events {{}}\n{text}", encoding="utf-8", errors="replace")
    settings = read_proxy_conf(folder / "nginx.conf")
    assert all(isinstance(note.text, str) and note.source for note in settings.notes)


def test_deep_nesting_is_noted(read):
    # How deep crossplane gets depends on the limit of recursion; the braces are missing in any case.
    (note,) = read("a { " * 5000).notes
    assert note.text in {"nested too deeply", 'unexpected end of file, expecting "}"'}
    assert any("nested too deeply" in note.text for note in read("a { " * 200 + "}" * 200).notes)


@pytest.mark.lab
def test_the_labs_configurations_are_read_without_a_note_but_for_files_of_elsewhere(lab):
    for path in sorted(lab.glob("*/proxy/nginx.conf")):
        settings = read_proxy_conf(path)
        assert [block.name for block in settings.upstreams] == ["be"], path
        assert [place.upstream for place in settings.locations] == ["be"], path
        assert settings.log_format("lab"), path
        assert all("/etc/nginx/fastcgi_params" in note.text for note in settings.notes), path


@pytest.mark.corpus
def test_the_public_samples_are_read(corpus):
    paths = [
        *corpus.glob("nginxinc+crossplane/tests/configs/*/nginx.conf"),
        *corpus.glob("nginx+nginx/conf/nginx.conf"),
    ]
    assert len(paths) > 10
    notes = [note.text for path in paths for note in read_proxy_conf(path).notes]
    assert all("bar.conf" in text or "arguments" in text for text in notes)
    block = read_proxy_conf(corpus / "weixu365+test-connection-reset" / "nginx.conf").block("nodejs")
    assert (block.keepalive.value, block.servers[0].max_fails.value, block.servers[0].fail_timeout_ns.value) == (
        16,
        3,
        S,
    )


@pytest.mark.parametrize(
    ("listen", "ports"),
    [
        ("18080", {18080}),
        ("127.0.0.1:81 default_server", {81}),
        ("[::]:8443 ssl", {8443}),
        ("[::1]", {80}),
        ("localhost", {80}),
        ("unix:/run/nginx.sock", set()),
        ("9000", set()),  # a server of its own has that port
    ],
)
def test_a_proxy_answers_where_it_listens_and_its_servers_do_not(read, listen, ports):
    settings = read(f"http {{ server {{ listen {listen}; location / {{ proxy_pass http://127.0.0.1:9000; }} }} }}")
    assert settings.own_ports() == ports
