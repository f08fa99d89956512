"""Facts about reading the configuration of APISIX, ingress-nginx and Kong."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.base.errors import UsageError
from pcapdiag.base.units import parse_endpoint
from pcapdiag.proxy.conf.read import read_proxy_conf
from pcapdiag.proxy.conf.settings import ProxyKind, Setting

ALSO_TESTS = ("apisix", "balanced", "ingress", "kong")

S = 1_000_000_000

CONFIG = """# config.yaml
nginx_config:
  error_log_level: info
  http:
    access_log_format: "$msec \\\\\\"$request\\\\\\""
    upstream:
      keepalive: 50
      keepalive_timeout: 90s
"""

OBJECTS = """
routes:
  - uri: /hello
    upstream:
      id: hello
      type: chash
      nodes: {"10.0.0.1:1980": 3, "app.internal": 1}
      keepalive_pool: {size: 4, idle_timeout: 7.5, requests: 9}
      timeout: {connect: 1, send: 2, read: 3.5}
      retries: 1
upstreams:
  - id: 7
    nodes:
      - {host: 10.0.0.2, port: 81, weight: 1}
      - {host: "::1", port: 82, weight: 1, priority: -1}
#END
"""


@pytest.fixture
def read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def _read(text, name="x.yaml"):
        (tmp_path / name).write_text(text)
        return read_proxy_conf(name)

    return _read


def test_apisix_config_sets_the_pool_of_all_upstreams(read):
    settings = read(CONFIG)
    assert settings.kind is ProxyKind.APISIX
    (block,) = settings.upstreams
    assert block.keepalive == Setting(50, "x.yaml:7")
    assert block.keepalive_timeout_ns == Setting(90 * S, "x.yaml:8")
    assert (block.keepalive_requests.value, block.keepalive_requests.assumed) == (1000, True)
    assert settings.error_logs[0].level == Setting("info", "x.yaml:3")
    assert settings.log_formats[0].text == '$msec "$request"'
    assert settings.blocks_of_peer("10.9.9.9:80") == (block,)


def test_apisix_upstream_objects_are_blocks(read):
    settings = read(OBJECTS)
    hello, seven = settings.upstreams
    assert (hello.name, seven.name) == ("hello", "7")
    assert [server.endpoint for server in hello.servers] == [parse_endpoint("10.0.0.1:1980"), None]
    assert hello.servers[0].weight == Setting(3, "x.yaml:7")
    assert (hello.keepalive.value, hello.keepalive_timeout_ns.value, hello.keepalive_requests.value) == (4, 7.5 * S, 9)
    assert (seven.keepalive.value, seven.keepalive.assumed) == (320, True)
    assert [server.backup for server in seven.servers] == [False, True]
    assert seven.servers[1].endpoint == parse_endpoint("[::1]:82")
    assert settings.blocks_of_peer("10.0.0.2:81") == (seven,)
    first, second = settings.locations
    assert (first.path, first.upstream, first.next_upstream_tries.value) == ("/hello", "hello", 2)
    assert [t.value for t in (first.connect_timeout_ns, first.send_timeout_ns, first.read_timeout_ns)] == [
        S,
        2 * S,
        3.5 * S,
    ]
    assert (second.next_upstream_tries.value, second.next_upstream_tries.assumed) == (2, True)
    assert all(server.max_fails.value == 0 for block in settings.upstreams for server in block.servers)


@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: {"value": v}, lambda v: {"node": {"value": v}}])
def test_an_answer_of_the_admin_api_is_read(read, wrap):
    text = json.dumps(wrap({"id": "1", "type": "roundrobin", "nodes": {"10.0.0.1:80": 1}}), indent="\t")
    (block,) = read(text, "upstream.json").upstreams
    assert (block.name, block.servers[0].endpoint) == ("1", parse_endpoint("10.0.0.1:80"))


def test_a_list_of_the_admin_api_is_read(read):
    items = [{"value": {"id": str(n), "nodes": {f"10.0.0.{n}:80": 1}}} for n in (1, 2)]
    assert [block.name for block in read(json.dumps({"list": items, "total": 2})).upstreams] == ["1", "2"]


def test_a_config_map_of_ingress_nginx_is_read(read):
    settings = read(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n  upstream-keepalive-timeout: '30'\n"
        "  proxy-read-timeout: '120'\n  retry-non-idempotent: 'true'\n  proxy-next-upstream: error http_502\n"
    )
    assert settings.kind is ProxyKind.INGRESS_NGINX
    (block,), (place,) = settings.upstreams, settings.locations
    assert block.keepalive_timeout_ns == Setting(30 * S, "x.yaml:5")
    assert (block.keepalive.value, block.keepalive.why) == (320, "default of ingress-nginx")
    assert place.read_timeout_ns == Setting(120 * S, "x.yaml:6")
    assert place.connect_timeout_ns.value == 5 * S
    assert place.next_upstream == Setting(("error", "http_502", "non_idempotent"), "x.yaml:7")


def test_kong_conf_is_read(read):
    settings = read(
        "# Kong\nupstream_keepalive_idle_timeout = 30 # seconds\nupstream_keepalive_max_requests=0\n"
        "proxy_access_log = /dev/stdout mine\nlog_level=warn\n\n",
        "kong.conf",
    )
    assert settings.kind is ProxyKind.KONG
    (block,) = settings.upstreams
    assert block.keepalive_timeout_ns == Setting(30 * S, "kong.conf:2")
    assert block.keepalive_requests.value == -1
    assert (block.keepalive.value, block.keepalive.assumed) == (512, True)
    assert (settings.access_logs[0].path, settings.access_logs[0].format_name) == ("/dev/stdout", "mine")
    assert settings.error_logs[0].level == Setting("warn", "kong.conf:5")


def test_kongs_declarative_configuration_is_read(read):
    settings = read(
        "_format_version: '3.0'\nservices:\n- name: a\n  host: up\n  read_timeout: 1500\n  retries: 0\n"
        "- {name: b, url: 'https://10.0.0.9/x'}\n- {name: c, host: '::1', port: 81}\n"
        "upstreams:\n- name: up\n  targets:\n  - {target: '10.0.0.1:80', weight: 7}\n  - target: 10.0.0.2\n"
    )
    assert settings.kind is ProxyKind.KONG
    assert [block.name for block in settings.upstreams] == ["up", "10.0.0.9", "::1"]
    up, own, six = settings.upstreams
    assert [server.port for server in up.servers] == [80, 8000]
    assert up.servers[0].weight == Setting(7, "x.yaml:12")
    assert own.servers[0].endpoint == parse_endpoint("10.0.0.9:443")
    assert six.servers[0].endpoint == parse_endpoint("[::1]:81")
    first, second, _ = settings.locations
    assert first.read_timeout_ns == Setting(1500_000_000, "x.yaml:5")
    assert (first.upstream, first.next_upstream_tries.value) == ("up", 1)
    assert (second.read_timeout_ns.value, second.next_upstream_tries.value) == (60 * S, 6)


def test_a_value_that_is_none_is_noted(read):
    settings = read("nginx_config: {http: {upstream: {keepalive: many, keepalive_timeout: [1]}}}")
    assert [(note.source, note.text) for note in settings.notes] == [("x.yaml:1", "'many' is not a number")]
    assert settings.upstreams[0].keepalive.assumed


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("services: {web: {image: nginx}}", "neither"),
        ("a: [", "x.yaml:"),
        ("kind: ConfigMap\ndata:\n  nginx.conf: 'events {}'\n", "save its nginx.conf"),
        ("[" * 100_000, "nested too deeply"),
        ("", "neither"),
    ],
)
def test_other_yaml_is_a_usage_error_that_says_what_to_do(read, text, says):
    with pytest.raises(UsageError, match=says):
        read(text)


def test_aliases_that_multiply_and_tags_do_nothing(read):
    bomb = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))
    settings = read(f"{bomb}nginx_config: !!python/object/apply:os.system ['false']\nself: &self [*self]\n")
    assert settings.kind is ProxyKind.APISIX


@given(
    st.lists(
        st.sampled_from(
            [
                "nodes",
                ": ",
                "\n",
                "  ",
                "- ",
                "upstream",
                "{",
                "}",
                "[",
                "]",
                "&a ",
                "*a",
                "!!x ",
                "nginx_config",
                "kind",
            ]
        ),
        max_size=30,
    ).map("".join)
)
def test_no_text_stops_the_reading(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("hostile") / "x.yaml"
    path.write_text(f"nginx_config: {{}}\nlist: {text}\n")
    try:
        assert read_proxy_conf(path).upstreams
    except UsageError as error:
        assert "x.yaml" in str(error)  # noqa: PT017 - either outcome is right


@pytest.mark.corpus
def test_the_public_samples_of_apisix_are_read(corpus):
    folder = corpus / "apache+apisix"
    (block,) = read_proxy_conf(folder / "conf" / "apisix.yaml").upstreams
    assert (block.name, block.servers[0].endpoint) == ("/hello", parse_endpoint("127.0.0.1:1980"))
    for name in ("conf/config.yaml", "docker/compose/apisix_conf/master/config.yaml"):
        settings = read_proxy_conf(folder / name)
        assert (settings.kind, settings.upstreams[0].keepalive.value) == (ProxyKind.APISIX, 320)
        assert settings.notes == ()
