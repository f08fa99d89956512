"""PD602: idle connections that are closed as others become idle, and closings that only look so."""

import pytest

from tests.conversations import LAST, RESPONSE, Conversation, diagnosed
from tests.scenario import ORIG

NGINX = """events {{}}
http {{ upstream be {{ server 10.9.0.1:80; keepalive {size}; }}
server {{ listen 80; location / {{
proxy_pass http://be; proxy_http_version 1.1; proxy_set_header Connection ""; }} }} }}
"""


@pytest.fixture
def found(tmp_path):
    """Return a function from conversations to the finding, if there is one."""

    def found(*conversations, size=None):
        given = {}
        if size is not None:
            (tmp_path / "nginx.conf").write_text(NGINX.format(size=size))
            given = {"proxy_conf": str(tmp_path / "nginx.conf")}
        return next((f for f in diagnosed(tmp_path, conversations, **given) if f.code == "PD602"), None)

    return found


def full_pool(n=8, *, closes_with=0.3, response=RESPONSE, alone_ms=0.0):
    """Return a kept connection, and others that are closed as a response on it ends, each at another age."""
    kept = Conversation(0, 0)
    others = []
    for number in range(n):
        at = 1_000 + 1_500 * number
        end = kept.ask(at)
        other = Conversation(number + 1, at - 900)
        idle_from = other.ask(at - 700 + 40 * number, response=response)
        assert idle_from < end
        other.close(end + closes_with + alone_ms, ORIG)
        others.append(other)
    return kept, *others


def test_connections_closed_as_another_becomes_idle_are_a_full_pool(found):
    finding = found(*full_pool())
    assert finding.count == 8
    assert finding.subject == "10.9.0.100"
    assert finding.details["most_open"] == 2
    assert "its pool was full. Up to 2 were open at once" in finding.message
    assert "keepalive 2" in finding.remedy


def test_the_configuration_says_how_many_it_keeps_or_that_it_is_no_full_pool(found):
    assert "(keepalive 1 in its configuration)" in found(*full_pool(), size=1).message
    assert found(*full_pool(), size=32) is None
    assert found(*full_pool(), size=0) is None


def test_closings_apart_from_the_ends_of_responses_are_none(found):
    assert found(*full_pool(alone_ms=200)) is None


def test_announced_ends_and_few_closings_are_none(found):
    assert found(*full_pool(response=LAST)) is None
    assert found(*full_pool(4)) is None


def test_a_timer_of_the_proxy_is_no_full_pool(found):
    kept = Conversation(0, 0)
    others = []
    for number in range(8):
        at = 1_000 + 1_500 * number
        other = Conversation(number + 1, at - 900)
        other.close(other.ask(at - 700) + 700, ORIG)  # always at the same age
        kept.ask(at)
        others.append(other)
    assert found(kept, *others) is None


def test_a_proxy_that_stops_closes_all_at_one_moment(found):
    kept = Conversation(0, 0)
    others = [Conversation(n + 1, 100 * n) for n in range(8)]
    for n, other in enumerate(others):
        other.ask(500 + 100 * n)
    end = kept.ask(3_000)
    for n, other in enumerate(others):
        other.close(end + 0.1 + n / 100, ORIG)
    assert found(kept, *others) is None
