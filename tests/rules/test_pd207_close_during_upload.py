"""PD207: what is an answer before the request was whole, and what only asked for the rest of it."""

import pytest

import pcapdiag
from tests.scenario import parse, write_capture

OPEN = "+0 > S\n+0.02 < S.\n+0.0001 > .\n"
HEAD = (
    '+0.01 > P. "POST /up HTTP/1.1\\r\\nHost: a\\r\\nExpect: 100-continue\\r\\nContent-Length: 40\\r\\n\\r\\n"\n'
    "+0.02 < .\n"
)
BODY = '+0.01 > P. "0123456789012345678901234567890123456789"\n+0.02 < .\n'
PART = '+0.01 > P. "0123456789"\n+0.02 < .\n'
FIN = "+0.01 < F.\n+0.0001 > F.\n"
INTERIM = {
    status: f'+0 < P. "HTTP/1.1 {status}\\r\\n\\r\\n"\n'
    for status in ("100 Continue", "102 Processing", "103 Early Hints")
}


@pytest.fixture
def report_of(tmp_path):
    """Return a function that returns the report of a script."""

    def run(script, **inputs):
        (tmp_path / "a.pcap").write_bytes(write_capture(parse(script), container="pcap-ns"))
        names = {}
        for name, text in inputs.items():
            (tmp_path / name).write_text(text)
            names[name] = [tmp_path / name]
        return pcapdiag.analyze(tmp_path / "a.pcap", proxies=["10.9.0.100"], **names).to_json()

    return run


@pytest.mark.parametrize("status", INTERIM)
def test_an_interim_response_is_no_early_answer(report_of, status):
    (finding,) = report_of(OPEN + HEAD + INTERIM[status] + BODY + FIN)["findings"]
    assert (finding["code"], finding["failures"]) == ("PD201", 1)
    texts = [e["text"] for e in finding["occurrences"][0]["evidence"]]
    assert "an interim response (1xx), which is no answer" in texts
    assert "FIN instead of a response: the upstream had the whole request" in texts


@pytest.mark.parametrize("status", INTERIM)
def test_a_closing_after_an_interim_response_had_a_part_of_the_request(report_of, status):
    (finding,) = report_of(OPEN + HEAD + INTERIM[status] + PART + FIN)["findings"]
    assert "its log says" not in finding["message"]
    texts = "; ".join(e["text"] for e in finding["occurrences"][0]["evidence"])
    assert "the answer begins" not in texts
    assert "all that was sent of the request" in texts


def test_an_interim_response_before_the_answer_leaves_no_trace(report_of):
    answer = '+0.01 < P. "HTTP/1.1 204 No Content\\r\\n\\r\\n"\n'
    report = report_of(OPEN + HEAD + INTERIM["100 Continue"] + BODY + answer + "+0 < R.\n")
    assert report["findings"] == []


def test_a_final_answer_after_an_interim_one_is_early_all_the_same(report_of):
    answer = '+0.01 < P. "HTTP/1.1 413 Too Large\\r\\nContent-Length: 0\\r\\n\\r\\n"\n'
    report = report_of(OPEN + HEAD + INTERIM["100 Continue"] + PART + answer + "+0 < R.\n")
    (finding,) = report["findings"]
    assert finding["code"] == "PD207"
    assert "answered 1 request (413) before it was whole" in finding["message"]


@pytest.mark.parametrize(("closing", "is_told"), [("F.", False), ("R.", True)])
def test_an_answer_that_was_read_before_the_proxy_closed_is_not_lost(report_of, closing, is_told):
    """A FIN says that nothing lay unread, a RST may say that something did."""
    answer = '+0.01 < P. "HTTP/1.1 401 Unauthorized\\r\\nContent-Length: 0\\r\\n\\r\\n"\n'
    report = report_of(f"{OPEN}{HEAD}{PART}{answer}+0.0001 > .\n+0.0001 > {closing}\n+0.02 < R.\n")
    assert [f["code"] for f in report["findings"]] == ["PD207"] * is_told


UPLOAD = '+0.01 > P. "POST /up HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: 400\\r\\n\\r\\n"\n'
UPLOAD += '+0.0001 > P. "0123456789"\n+0.02 < .\n'
WHOLE = '+0.01 > P. "GET /up HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n"\n+0.02 < .\n'
ENTRY = (
    "2023/11/14 22:13:20 [error] 31#31: *1 {what} to upstream, client: 192.0.2.1, server: a, "
    'request: "POST /up HTTP/1.1", upstream: "http://10.9.0.1:80/up", host: "a"\n'
)
SENDING = "writev() failed (104: Connection reset by peer) while sending request"
READING = "recv() failed (104: Connection reset by peer) while reading response header"


@pytest.mark.parametrize("snaplen", [0, 54, 68])
@pytest.mark.parametrize("what", ["", READING, SENDING])
@pytest.mark.parametrize(("sent", "end"), [(UPLOAD, "R"), (UPLOAD, "F"), (WHOLE, "R")])
def test_an_upload_whose_length_the_capture_cut_off_is_not_called_whole(tmp_path, snaplen, what, sent, end):
    """Only the proxy's log knows then whether more was to come; a request in one segment is whole."""
    path, log = tmp_path / "a.pcap", tmp_path / "error.log"
    path.write_bytes(write_capture(parse(f"{OPEN}{sent}+0.01 < {end}.\n"), container="pcap-ns", snaplen=snaplen))
    said = what if end == "R" else f"upstream prematurely closed connection while {what.partition(' while ')[2]}"
    entry = ENTRY.format(what=said)
    log.write_text(entry.replace(" to upstream", " from upstream") if what == READING else entry)
    logs = {"error_logs": [log]} if what else {}
    report = pcapdiag.analyze(path, proxies=["10.9.0.100"], **logs).to_json()
    (finding,) = [f for f in report["findings"] if f["severity"] == "error"]
    is_known = sent is UPLOAD and (not snaplen or what == SENDING)
    assert finding["code"] == ("PD207" if is_known else "PD202" if end == "R" else "PD201"), finding["message"]
    texts = f"{finding['message']} " + "; ".join(e["text"] for e in finding["occurrences"][0]["evidence"])
    assert ("has the whole request" in texts) == (sent is WHOLE)
    assert ("whole is not seen" in texts) == (sent is UPLOAD and not is_known)
    assert ("may run one twice" in finding["remedy"]) == (sent is WHOLE)


REST = "+0.03 < P. 1:41(40) ack 101\n+0.00001 > P. 101:301(200) ack {ack}\n+0.00009 < R. 41:41(0) ack 101\n"


@pytest.mark.parametrize("protocol", ["fastcgi", "opaque"])
@pytest.mark.parametrize("ack", [1, 41])
@pytest.mark.parametrize("says", ["", SENDING])
def test_bytes_that_left_before_the_answer_had_come_are_no_request_on_an_idle_connection(tmp_path, protocol, ack, says):
    """They may be the rest of an upload that was answered early: what they are was cut off, and a log may know it."""
    first = "\\x01\\x01\\0\\x01\\0\\x08\\0\\0\\0\\x01\\0\\0\\0\\0\\0\\0" if protocol == "fastcgi" else "\\x07hello" * 3
    length = 16 if protocol == "fastcgi" else 18
    script = f'{OPEN}+0.01 > P. "{first}"\n+0 > P. {length + 1}:101({100 - length}) ack 1\n' + REST.format(ack=ack)
    path, log = tmp_path / "a.pcap", tmp_path / "error.log"
    path.write_bytes(write_capture(parse(script), container="pcap-ns", snaplen=70))
    log.write_text(ENTRY.format(what=says).replace("http://10.9.0.1:80/up", "fastcgi://10.9.0.1:80"))
    logs = {"error_logs": [log]} if says else {}
    found = pcapdiag.analyze(path, proxies=["10.9.0.100"], **logs).to_json()["findings"]
    codes = {f["code"] for f in found if f["severity"] != "info"}
    if ack == 1:
        assert codes == {"PD207" if says and protocol == "fastcgi" else "PD999"}
    else:
        assert "PD207" not in codes
