"""What of a capture an error log or an application's log could tell of."""

import pytest

import pcapdiag
from pcapdiag.analysis import tries
from pcapdiag.analysis.tries import list_served, list_tries
from tests.scenario import parse, write_capture

S = 10**9
OPEN = "+0 > S\n+0.02 < S.\n+0 > .\n"
GET = r'"GET /%s HTTP/1.1\r\nHost: h.example\r\nX-Request-Id: id-%s\r\n\r\n"'
OK = r'"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"'


@pytest.fixture
def analysis_of(tmp_path):
    """Return a function that analyses a script."""

    def analyse(script):
        path = tmp_path / "proxy.pcap"
        path.write_bytes(write_capture(parse(script)))
        return pcapdiag.analyze(path, redact=False).analysis

    return analyse


def ask(name, *, at="+1", answered=True):
    answer = f"+0.1 < P. {OK}\n+0 > .\n" if answered else ""
    return f"{at} > P. {GET % (name, name)}\n{answer}"


def test_a_lost_request_is_a_failure_with_all_that_is_known_of_it(analysis_of):
    analysis = analysis_of(OPEN + ask("a") + ask("lost", at="+4", answered=False) + "+0.001 < F. ack 66\n+0.02 < R\n")
    (wire,) = (wire for wire in list_tries(analysis) if wire.is_failure)
    assert (wire.peer, wire.orig, wire.method, wire.target) == ("10.9.0.1:80", "10.9.0.100:40000", "GET", "/lost")
    assert (wire.host, wire.request_id, wire.depth) == ("h.example", "id-lost", 1)
    assert wire.resp_fin_ns - wire.start_ns == 1_000_000
    assert (wire.first_response_ns, wire.is_connect, wire.has_head) == (-1, False, False)


def test_of_answered_requests_the_last_of_a_closed_connection_counts(analysis_of):
    closed = analysis_of(OPEN + ask("a") + ask("b") + "+4 < F.\n+0.1 > F.\n+0 < .\n")
    (wire,) = list_tries(closed)
    assert (wire.target, wire.is_failure, wire.has_head) == ("/b", False, True)
    assert wire.resp_fin_ns >= 0
    assert list_tries(analysis_of(OPEN + ask("a") + ask("b"))) == ()


def test_a_refused_connection_is_a_try_without_a_request(analysis_of):
    (wire,) = list_tries(analysis_of("+0 > S\n+0.01 < R.\n"))
    assert (wire.is_connect, wire.is_failure, wire.method, wire.target) == (True, True, "", "")
    assert wire.resp_rst_ns >= 0


def test_what_was_answered_is_served_with_its_times_and_names(analysis_of):
    analysis = analysis_of(OPEN + ask("a") + ask("b") + ask("lost", answered=False))
    served, is_sampled = list_served(analysis, ())
    assert [(one.target, one.request_id, one.end_ns - one.start_ns) for one in served] == [
        ("/a", "id-a", S // 10),
        ("/b", "id-b", S // 10),
    ]
    assert not is_sampled


def test_of_too_many_those_stay_that_may_repeat_a_lost_one(analysis_of, monkeypatch):
    monkeypatch.setattr(tries, "MOST_SERVED", 4)
    before = "".join(ask(f"early{n}") for n in range(8))
    lost = "+1 @1 > S\n+0.02 @1 < S.\n+0 @1 > .\n+0 @1 > P. " + GET % ("lost", "x") + "\n+0.1 @1 < F.\n"
    analysis = analysis_of(OPEN + before + lost + ask("again") + ask("later"))
    served, is_sampled = list_served(analysis, [wire for wire in list_tries(analysis) if wire.is_failure])
    targets = [one.target for one in served]
    assert is_sampled
    assert targets[-2:] == ["/again", "/later"]
    assert len(targets) < 10
