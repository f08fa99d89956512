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
