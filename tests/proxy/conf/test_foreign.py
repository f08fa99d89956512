"""Configurations of HAProxy and Apache are told from others, and not read as nginx's."""

import pytest

from pcapdiag.proxy.conf.describe import describe
from pcapdiag.proxy.conf.foreign import foreign_kind
from pcapdiag.proxy.conf.read import read_proxy_conf
from pcapdiag.proxy.conf.settings import ProxyKind

HAPROXY = """# main
global
  log stdout format raw local0
defaults
  mode http
  timeout client 75s
frontend f
  bind :80
  default_backend b
backend b
  server s1 10.1.1.1:80
"""
APACHE = """ServerRoot /etc/httpd
LoadModule proxy_module modules/mod_proxy.so
<VirtualHost *:80>
  ProxyPass / http://10.1.1.1:80/
</VirtualHost>
"""
NGINX = "upstream be { server 10.1.1.1:80; }\nserver { location / { proxy_pass http://be; } }\n"
NGINX_LINES = "http {\n  server {\n    # LoadModule x\n    location / { return 200; }\n  }\n}\n"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (HAPROXY, ProxyKind.HAPROXY),
        (APACHE, ProxyKind.APACHE),
        (NGINX, None),
        (NGINX_LINES, None),
        ("", None),
        ("# nothing\n", None),
        ("global\n", None),
    ],
)
def test_a_configuration_is_recognised_by_its_shape(text, kind):
    assert foreign_kind(text) is kind


@pytest.mark.parametrize(("text", "kind"), [(HAPROXY, ProxyKind.HAPROXY), (APACHE, ProxyKind.APACHE)])
def test_another_proxy_has_its_servers_and_none_of_the_settings_of_nginx(tmp_path, text, kind):
    path = tmp_path / "proxy.conf"
    path.write_text(text)
    settings = read_proxy_conf(path)
    assert settings.kind is kind
    assert (settings.blocks_of_peer("10.1.1.1:80"), settings.locations, settings.notes) == ((), (), ())
    (server,) = settings.servers_of("10.1.1.1:80")
    assert server.source.startswith(f"{path}:")
    assert {row.name for row in describe(settings)} & {"keepalive_timeout", "proxy_next_upstream", "max_fails"} == set()
