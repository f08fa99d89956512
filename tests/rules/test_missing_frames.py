"""What a capture lacks becomes no cause: of connections on which all went well, any frames or bytes may be missing."""

from itertools import combinations

import pytest

import pcapdiag
from tests.hellos import CHANGE_CIPHER_SPEC, client_hello, quoted, record, server_hello
from tests.scenario import parse, write_capture

OPEN = "+0 > S\n+0.02 < S.\n+0.0001 > .\n"
GET = '+0.01 > P. "GET /a HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n"\n'
POST = '+0.01 > P. "POST /a HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: 40\\r\\n\\r\\n"\n'
BODY = '+0.001 > P. "01234567890123456789"\n+0.001 > P. "01234567890123456789"\n'
ANSWER = '+0.03 < P. "HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\n\\r\\nhello"\n+0.001 > .\n'
CHUNKS = (
    '+0.03 < P. "HTTP/1.1 200 OK\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n5\\r\\nhello\\r\\n"\n'
    '+0.001 < P. "5\\r\\nhello\\r\\n0\\r\\n\\r\\n"\n+0.001 > .\n'
)
UNTIL_CLOSE = '+0.03 < P. "HTTP/1.1 200 OK\\r\\nConnection: close\\r\\n\\r\\nhello"\n+0.001 > .\n'
EXPECT = '+0.01 > P. "POST /a HTTP/1.1\\r\\nHost: a\\r\\nExpect: 100-continue\\r\\nContent-Length: 40\\r\\n\\r\\n"\n'
CONTINUE = '+0.02 < P. "HTTP/1.1 100 Continue\\r\\n\\r\\n"\n'
EARLY = '+0.02 < P. "HTTP/1.1 401 No\\r\\nContent-Length: 0\\r\\n\\r\\n"\n+0.001 > .\n'
PROBE = "+5 > . 28:28(0)\n+0.02 < .\n+2 > . 28:28(0)\n+0.02 < .\n"
BY_UPSTREAM_AT_ONCE = "+0 < F.\n+0.0001 > .\n+0.001 > F.\n+0.02 < .\n"
UNANSWERED = "+0.02 < .\n"
BY_PROXY = "> F.\n+0.02 < F.\n+0.0001 > .\n"
BY_UPSTREAM = "< F.\n+0.0001 > .\n+0.001 > F.\n+0.02 < .\n"
HELLOS = (
    f"+0.01 > P. {quoted(client_hello(name='a.example'))}\n"
    f"+0.02 < P. {quoted(server_hello() + record(22, bytes(300)))}\n+0.001 > .\n"
)
FINISHED = f"+0.01 > P. {quoted(CHANGE_CIPHER_SPEC + record(22, bytes(40)))}\n"
WELL = {
    "an answer, then the proxy closes": OPEN + GET + UNANSWERED + ANSWER + f"+2 {BY_PROXY}",
    "an answer, then the upstream closes": OPEN + GET + UNANSWERED + ANSWER + f"+2 {BY_UPSTREAM}",
    "two answers on one connection": OPEN + (GET + UNANSWERED + ANSWER) * 2 + f"+0 {BY_PROXY}",
    "an upload": OPEN + POST + BODY + UNANSWERED + ANSWER + f"+0.1 {BY_UPSTREAM}",
    "an upload, reset when it was answered": OPEN + POST + BODY + UNANSWERED + ANSWER + "+0.1 < R.\n",
    "an answer in chunks": OPEN + GET + UNANSWERED + CHUNKS + f"+0.1 {BY_UPSTREAM}",
    "an answer that ends with the connection": OPEN + GET + UNANSWERED + UNTIL_CLOSE + BY_UPSTREAM_AT_ONCE,
    "an upload that was asked for": OPEN + EXPECT + UNANSWERED + CONTINUE + BODY + ANSWER + f"+0.1 {BY_UPSTREAM}",
    "an early answer that was read": OPEN + POST + EARLY + BODY + f"+0.1 {BY_PROXY}",
    "a keep-alive probe": OPEN + GET + UNANSWERED + ANSWER + PROBE + GET + UNANSWERED + ANSWER + f"+1 {BY_UPSTREAM}",
    "a client that closes its side and goes": OPEN + GET + UNANSWERED + f"+0.001 {BY_PROXY}",
    "a client that leaves inside an answer": OPEN
    + GET
    + '+0.03 < P. "HTTP/1.1 200 OK\\r\\nContent-Length: 900\\r\\n\\r\\nhello"\n+0.001 > .\n'
    + f"+0.3 {BY_PROXY}",
    "a client that leaves inside a TLS handshake": OPEN + HELLOS + f"+0.001 {BY_PROXY}",
    "a TLS handshake that ends with its client": OPEN + HELLOS + FINISHED + f"+0.001 {BY_PROXY}",
}


def errors_of(tmp_path, segments):
    path = tmp_path / "a.pcap"
    path.write_bytes(write_capture(segments, container="pcap-ns"))
    found = pcapdiag.analyze(path).to_json()["findings"]
    return [(f["code"], f["message"]) for f in found if f["severity"] == "error"]


@pytest.mark.compiled_only
@pytest.mark.parametrize("well", WELL)
def test_whatever_two_frames_are_missing_nobody_failed(tmp_path, well):
    segments = parse(WELL[well])
    wrong = {}
    for missing in (*combinations(range(len(segments)), 1), *combinations(range(len(segments)), 2)):
        errors = errors_of(tmp_path, [s for i, s in enumerate(segments) if i not in missing])
        if errors:
            wrong[missing] = errors
    assert wrong == {}


LAST_WORDS = {
    "ldap": ("0\\x0c\\x02\\x01\\x01`\\x07", "0\\x0c\\x02\\x01\\x01a\\x07", "0\\x05\\x02\\x01\\x02B\\x00"),
    "mysql": ("\\x21\\0\\0\\0\\x03select 1", "\\x01\\0\\0\\x01\\x01", "\\x01\\0\\0\\0\\x01"),
    "smtp": ("EHLO a\\r\\n", "250 ok\\r\\n", "QUIT\\r\\n"),
}
HEADERS_BYTES = 54


@pytest.mark.parametrize("protocol", LAST_WORDS)
@pytest.mark.parametrize("proxies", [[], ["10.9.0.100"]])
def test_a_last_word_that_was_cut_off_is_an_error_only_behind_a_proxy(tmp_path, protocol, proxies):
    """Nothing else than requests goes to the upstreams of a proxy; elsewhere bytes that nobody saw prove nothing."""
    asked, answered, last = LAST_WORDS[protocol]
    script = (
        f'{OPEN}+0.01 > P. "{asked}"\n+0.03 < P. "{answered}"\n+0.01 > P. "{last}"\n+0.02 < .\n+0.01 < F.\n+0 > F.\n'
    )
    path = tmp_path / "a.pcap"
    path.write_bytes(write_capture(parse(script), container="pcap-ns", snaplen=HEADERS_BYTES))
    (finding,) = pcapdiag.analyze(path, proxies=proxies).to_json()["findings"]
    assert (finding["code"], finding["severity"]) == ("PD201", "error" if proxies else "warning")
    assert (finding["confidence"], "may have been a last word" in finding["message"]) == (
        ("likely", False) if proxies else ("possible", True)
    )


HEAD = '"HTTP/1.1 200 OK\\r\\nContent-Length: 900\\r\\n\\r\\nhello"'
"""44 bytes; what follows of the response is never captured."""


@pytest.mark.compiled_only
@pytest.mark.parametrize(
    ("unseen_s", "silent_s", "found"),
    [
        (2.4, 30.005, {"PD204": "30s"}),  # since the bytes that only the proxy's acknowledgement tells of
        (2.4, 27.6, {}),  # 30 s since the last bytes that were captured: the upstream was not silent for so long
        (2.4, 41.3, {}),
    ],
)
@pytest.mark.parametrize("stored", ["", "+0.001 < P. 245:265(20) ack 38\n"])
def test_silence_inside_a_response_begins_with_the_bytes_that_were_acknowledged_last(
    tmp_path, unseen_s, silent_s, found, stored
):
    text = OPEN + GET + f"+0.03 < P. {HEAD}\n+0.001 > .\n" + stored
    text += f"+{unseen_s} > . 38:38(0) ack 145\n+{silent_s} > R. 38:38(0) ack 145\n"
    path = tmp_path / "a.pcap"
    path.write_bytes(write_capture(parse(text), container="pcap-ns"))
    report = pcapdiag.analyze(path).to_json()
    assert {f["code"]: f["message"].split(" gave up after ")[1].split()[0] for f in report["findings"]} == found
