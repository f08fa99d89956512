"""PD603: one request per connection, told where a proxy does it, and only there."""

import pytest

from pcapdiag.base.findings import Severity
from tests.conversations import LAST, Conversation, diagnosed
from tests.scenario import ORIG, RESP

CODE = "PD603"


@pytest.fixture
def found(tmp_path):
    """Return a function from conversations to the finding, if there is one."""

    def found(*conversations, **given):
        return next((f for f in diagnosed(tmp_path, conversations, **given) if f.code == CODE), None)

    return found


def single(n, *, side, response=LAST, requests=1):
    """Return connections with so many requests each, closed by one side."""
    made = []
    for number in range(n):
        talk = Conversation(number, 1_000 * number)
        end = 1_000 * number + 160
        for _ in range(requests):
            end = talk.ask(end, response=response)
        talk.close(end + 0.1, side)
        made.append(talk)
    return made


@pytest.mark.parametrize(("side", "who"), [(ORIG, "the proxy"), (RESP, "the upstream")])
def test_one_request_per_connection_is_told_with_its_handshakes_and_ports(found, side, who):
    finding = found(*single(12, side=side))
    assert finding.severity is Severity.INFO
    assert finding.count == 12
    assert finding.details["handshake_mean_ns"] == 160_000_000
    assert f"{who} closed 12 of them first" in finding.message
    assert "12 of the responses announced it" in finding.message
    assert finding.details["most_closed_per_minute"] == 12


def test_ports_are_counted_within_a_minute(found):
    slow = [Conversation(n, 10_000 * n) for n in range(12)]
    for n, talk in enumerate(slow):
        talk.close(talk.ask(10_000 * n + 160) + 0.1, ORIG)
    assert found(*slow).details["most_closed_per_minute"] == 7


def test_few_connections_reuse_and_what_was_not_seen_whole_are_no_finding(found):
    assert found(*single(9, side=ORIG)) is None
    assert found(*single(12, side=ORIG, response=b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", requests=2)) is None
    still_open = single(12, side=ORIG)
    for talk in still_open:
        del talk.segments[-2:]
    assert found(*still_open) is None


def test_one_kept_connection_among_many_does_not_hide_it(found):
    kept = Conversation(50, 500)
    for n in range(5):
        kept.ask(1_000 + 1_000 * n, response=b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    kept.close(9_000, ORIG)
    assert found(*single(25, side=ORIG), kept) is not None
    assert found(*single(12, side=ORIG), kept) is None


def test_a_proxy_that_hands_on_bytes_has_nothing_to_keep(found, tmp_path):
    conf = tmp_path / "haproxy.cfg"
    text = "defaults\n  mode {}\nfrontend f\n  bind :80\n  default_backend be\nbackend be\n  server a 10.9.0.1:80\n"
    conf.write_text(text.format("http"))
    assert "http-reuse safe" in found(*single(12, side=ORIG), proxy_conf=str(conf)).remedy
    conf.write_text(text.format("tcp"))
    assert found(*single(12, side=ORIG), proxy_conf=str(conf)) is None


def test_what_the_configuration_has_already_is_not_advised(found, tmp_path):
    path = tmp_path / "nginx.conf"
    path.write_text("http { upstream be {\n server 10.9.0.1:80;\n keepalive 16;\n} }\n")
    kept = found(*single(12, side=ORIG), proxy_conf=str(path)).remedy
    assert "keeps up to 16 idle connections to 10.9.0.1:80" in kept
    assert "keepalive 32" not in kept
    path.write_text("http { upstream be {\n server 10.9.0.1:80;\n} }\n")
    assert "keepalive 32" in found(*single(12, side=ORIG), proxy_conf=str(path)).remedy
