"""FastCGI requests that ended without output: who refused, who broke off, and what was no request at all."""

import pytest

import pcapdiag
from pcapdiag.rules._records import status_name
from tests.scenario import Form, Segment, write_capture

ORIG, RESP = 0, 1
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


def _record(kind, content=b"", number=1):
    return bytes([1, kind]) + number.to_bytes(2, "big") + len(content).to_bytes(2, "big") + b"\0\0" + content


def _ask(number=1, flags=0):
    pairs = b"\x0e\x04REQUEST_METHODPOST\x0b\x03REQUEST_URI/up"
    begin = _record(1, bytes([0, 1, flags, 0, 0, 0, 0, 0]), number)
    return begin + _record(4, pairs, number) + _record(4, b"", number) + _record(5, b"", number)


def _end(status, number=1):
    return _record(3, bytes([0, 0, 0, 0, status, 0, 0, 0]), number)


OUTPUT = _record(6, b"Status: 200 OK\r\n\r\nok")
CLOSED = ((0.1, RESP, "FIN"), (0.1, ORIG, "FIN"))


def _analyze(path, *turns, port=9000, **inputs):
    """Return the report of a connection on which (ms to wait, side, bytes or flag) were said, all acknowledged."""
    sent, now = [1, 1], 10**6
    segments = [
        Segment(0, 0, ORIG, SYN, 0, -1),
        Segment(400_000, 0, RESP, SYN | ACK, 0, 1),
        Segment(500_000, 0, ORIG, ACK, 1, 1),
    ]
    for wait, side, what in turns:
        now += int(wait * 10**6)
        payload = b"" if isinstance(what, str) else what
        flags = ACK | {"FIN": FIN, "RST": RST}[what] if isinstance(what, str) else ACK | PSH
        segments.append(Segment(now, 0, side, flags, sent[side], sent[1 - side], payload))
        sent[side] += len(payload) + (what == "FIN")
    file = path / "fastcgi.pcap"
    file.write_bytes(write_capture(segments, Form(resp_port=port)))
    return pcapdiag.analyze(file, **inputs)


def _errors(report):
    return [f for f in report.found if f.severity]


def _findings(report):
    return [(f.code, f.count) for f in _errors(report)]


@pytest.mark.parametrize(
    ("status", "name"), [(1, "FCGI_CANT_MPX_CONN"), (2, "FCGI_OVERLOADED"), (3, "FCGI_UNKNOWN_ROLE")]
)
def test_a_rejected_request_is_the_refusal_of_the_upstream(tmp_path, status, name):
    report = _analyze(tmp_path, (1, ORIG, _ask()), (1, RESP, _end(status)), *CLOSED)
    (finding,) = _errors(report)
    assert (finding.code, finding.count) == ("PD404", 1)
    assert name in finding.message
    assert any(name in e.text for o in finding.occurrences for e in o.evidence)


def test_a_request_that_ended_without_output_was_taken_and_not_answered(tmp_path):
    report = _analyze(tmp_path, (1, ORIG, _ask()), (1, RESP, _end(0)), *CLOSED)
    assert _findings(report) == [("PD201", 1)]
    assert "FCGI_END_REQUEST" in _errors(report)[0].message


def test_the_entry_that_nginx_logs_of_it_is_of_this_request(tmp_path):
    log = tmp_path / "error.log"
    log.write_text(
        "2023/11/14 22:13:20 [error] 31#31: *10 upstream sent unexpected FastCGI record: 3 while reading response"
        ' header from upstream, client: 198.51.100.7, server: app.example, request: "POST /up HTTP/1.1",'
        ' upstream: "fastcgi://10.9.0.1:9000", host: "app.example"\n'
    )
    report = _analyze(tmp_path, (1, ORIG, _ask()), (1, RESP, _end(2)), *reversed(CLOSED), error_logs=[log])
    assert _findings(report) == [("PD404", 1)]
    entries = report.to_json()["log"]["entries"]
    assert [entry["code"] for entry in entries] == ["PD404"]


def test_on_a_kept_connection_it_counts_although_the_next_one_is_answered(tmp_path):
    turns = ((1, ORIG, _ask(flags=1)), (1, RESP, _end(2)), (50, ORIG, _ask(flags=1)), (1, RESP, OUTPUT + _end(0)))
    assert _findings(_analyze(tmp_path, *turns)) == [("PD404", 1)]


def test_of_two_at_a_time_the_number_tells_which_was_rejected(tmp_path):
    both = _ask(1, 1) + _ask(2, 1)
    report = _analyze(tmp_path, (1, ORIG, both), (1, RESP, _end(1, 2)), (1, RESP, OUTPUT + _end(0)))
    (finding,) = _errors(report)
    assert (finding.code, finding.count) == ("PD404", 1)
    assert finding.occurrences[0].depth == 1


def test_what_the_proxy_aborted_is_its_own_doing(tmp_path):
    report = _analyze(tmp_path, (1, ORIG, _ask()), (3000, ORIG, _record(2)), (1, RESP, _end(0)), *CLOSED)
    assert [code for code, _ in _findings(report)] == ["PD204"]


def test_the_error_stream_is_no_answer(tmp_path):
    said = _record(7, b"PHP Fatal error")
    report = _analyze(tmp_path, (1, ORIG, _ask()), (5, RESP, said), (1, RESP, "FIN"), (0.1, ORIG, "FIN"))
    assert _findings(report) == [("PD201", 1)]


@pytest.mark.parametrize(
    "answer",
    [
        OUTPUT + _end(0),
        _record(7, b"PHP Warning") + OUTPUT + _end(0),
        OUTPUT + _record(7, b"PHP Warning") + _record(6) + _end(0),
        OUTPUT + _end(2),  # it was served, whatever the status says
    ],
)
def test_near_miss_what_wrote_output_was_answered(tmp_path, answer):
    assert not _findings(_analyze(tmp_path, (1, ORIG, _ask()), (5, RESP, answer), *CLOSED))


def test_questions_of_the_protocol_itself_are_no_requests(tmp_path):
    asked = _record(9, b"\x0e\0FCGI_MAX_CONNS", 0)
    told = _record(10, b"\x0e\1FCGI_MAX_CONNS1", 0)
    report = _analyze(
        tmp_path, (1, ORIG, asked), (1, RESP, told), (1, ORIG, _ask()), (4, RESP, OUTPUT + _end(0)), *CLOSED
    )
    assert not _errors(report)
    assert len(report.exchanges) == 1


def test_a_fin_inside_an_upload_is_no_close_behind_the_whole_request(tmp_path):
    names = ((b"REQUEST_METHOD", b"POST"), (b"REQUEST_URI", b"/u"), (b"CONTENT_LENGTH", b"3000"))
    block = b"".join(len(part).to_bytes(2, "little") + part for pair in names for part in pair)
    head = b"\0" + len(block).to_bytes(2, "little") + b"\0" + block
    turns = ((1, ORIG, head + b"x" * 1400), (2, RESP, "FIN"), (0.2, ORIG, b"x" * 1600), (0.2, RESP, "RST"))
    assert _findings(_analyze(tmp_path, *turns, port=3031)) == [("PD207", 1)]


def test_statuses_have_the_names_of_the_specification():
    assert status_name(2) == "FCGI_OVERLOADED"
    assert "not defined" in status_name(9)
    assert "not captured" in status_name(-1)
