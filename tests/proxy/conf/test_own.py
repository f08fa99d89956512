"""Servers of other proxies, from an address as it is written."""

import pytest

from pcapdiag.proxy.conf.own import OwnWords, Way, assumed_ns, own_server, own_settings
from pcapdiag.proxy.conf.settings import ProxyKind, Setting
from pcapdiag.proxy.conf.values import go_time_ns

NONE = assumed_ns(-1, "none")
WAY = Way(Setting(value=True), NONE, NONE, NONE, Setting(()), rewrites=False, settings=())


@pytest.mark.parametrize(
    ("written", "default_port", "address", "port"),
    [
        ("10.0.0.1:81", 80, "10.0.0.1:81", 81),
        ("10.0.0.1", 80, "10.0.0.1:80", 80),
        ("[2001:DB8::1]", 443, "[2001:db8::1]:443", 443),
        ("app", 80, "app:80", 80),
        ("app:80", 80, "app:80", 80),
        ("app", -1, "app", -1),
        ("unix:/run/a.sock", 80, "unix:/run/a.sock", -1),
    ],
)
def test_an_address_is_as_logs_and_packets_have_it(written, default_port, address, port):
    made = own_server("b", written, default_port, WAY, "f:1")
    assert (made.address, made.name, made.port) == (address, address, port)


def test_more_servers_than_anybody_has_are_left_out_and_said():
    servers = [own_server("b", f"10.0.0.1:{n}", -1, WAY, "f:1") for n in range(1, 10_002)]
    settings = own_settings(ProxyKind.CADDY, "f", servers, [], "none")
    assert len(settings.own) == 10_000
    assert "10,000" in settings.notes[0].text


def test_a_time_that_is_none_leaves_the_default_and_is_noted():
    notes = []
    shown = OwnWords(notes)
    default = assumed_ns(5, "why")
    assert shown.time("t", Setting("soon", "f:1"), go_time_ns, default, "5ns") is default
    assert [note.text for note in notes] == ["t: 'soon' is not a time"]
    assert shown.all() == (("t", Setting("5ns", assumed=True, why="why")),)
