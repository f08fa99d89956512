"""A secret in a field, a query, a cookie, a body or a log line is in nothing that leaves the machine."""

import zipfile

import pytest
from click.testing import CliRunner

from pcapdiag.cli import main
from tests.ticket.evidence.scenes import COOKIE, FIELD, QUERY, SECRETS, USER, in_time, race, write

pytestmark = pytest.mark.compiled_only

ERROR_LOG = f"""\
2023/11/14 22:13:24 [error] 7#7: *1 upstream prematurely closed connection while reading response header from \
upstream, client: 192.0.2.9, server: shop.example.test, request: "POST /orders?id=7&token={QUERY} HTTP/1.1", \
upstream: "http://10.9.0.1:80/orders?id=7&token={QUERY}", host: "shop.example.test", \
referrer: "https://{USER}@a.example.test/x?q={QUERY}"
2023/11/14 22:13:24 [error] 7#7: *1 upstream sent invalid header: "X-Weird\\x20: {FIELD}" while reading response \
header from upstream, client: 192.0.2.9, server: shop.example.test, request: "GET /?sid={COOKIE} HTTP/1.1", \
upstream: "http://10.9.0.1:80/?sid={COOKIE}", host: "shop.example.test"
2023/11/14 22:13:25 [error] 7#7: *1 lua: Authorization: Bearer {FIELD}, Cookie: sid={COOKIE}, client: 192.0.2.9, \
server: shop.example.test, request: "GET / HTTP/1.1", host: "shop.example.test"
"""
ACCESS_LOG = (
    f'192.0.2.9 - - [14/Nov/2023:22:13:24 +0000] "POST /orders?id=7&token={QUERY} HTTP/1.1" 502 157 '
    f'"https://{USER}@a.example.test/x?q={QUERY}" "curl/8"\n'
)
MACHINES = ("10.9.0.1", "10.9.0.100", "192.0.2.9", "shop.example.test", "a.example.test")


@pytest.fixture(scope="module")
def incident(tmp_path_factory):
    folder = tmp_path_factory.mktemp("acme")
    (folder / "error.log").write_text(ERROR_LOG)
    (folder / "access.log").write_text(ACCESS_LOG)
    write(folder / "proxy.pcap", in_time(race([90]), race([10], conn=1, start_ns=5_000)))
    return folder


def analyze(incident, *options):
    logs = ["--error-log", str(incident / "error.log"), "--access-log", str(incident / "access.log")]
    done = CliRunner().invoke(main, ["analyze", str(incident / "proxy.pcap"), *logs, *map(str, options)])
    assert done.exit_code == 1, done.stderr
    return done.stdout + done.stderr


def found_in(content, words):
    data = content.encode() if isinstance(content, str) else content
    return [word for word in words if word.encode() in data]


@pytest.mark.parametrize("format_", ["terminal", "markdown", "json", "html", "jira", "slack"])
@pytest.mark.parametrize("anonymize", [False, True])
def test_no_secret_is_in_any_report(format_, anonymize, incident):
    text = analyze(incident, "--format", format_, *(["--anonymize"] if anonymize else []))
    assert found_in(text, SECRETS) == []
    if anonymize:
        assert found_in(text, (*MACHINES, str(incident.parent))) == []


@pytest.mark.parametrize("anonymize", [False, True])
def test_no_secret_is_in_any_part_of_a_bundle(anonymize, incident, tmp_path):
    target = tmp_path / "incident.zip"
    analyze(incident, "--bundle", target, "-q", *(["--anonymize"] if anonymize else []))
    with zipfile.ZipFile(target) as bundle:
        assert "evidence.pcapng" in bundle.namelist()
        for name in bundle.namelist():
            content = bundle.read(name)
            assert found_in(content, SECRETS) == [], name
            if anonymize:
                assert found_in(content, (*MACHINES, str(incident.parent))) == [], name


def test_the_secrets_are_there_where_redaction_is_refused(incident):
    """Otherwise the tests above would prove nothing."""
    text = analyze(incident, "--format", "json", "--no-redact")
    assert set(found_in(text, SECRETS)) >= {QUERY}
    assert '"redacted": false' in text
    assert "NOT REDACTED" in analyze(incident, "--no-redact")
    assert "NOT REDACTED" in analyze(incident, "--no-redact", "--format", "markdown")


def test_what_was_masked_is_listed(incident):
    text = analyze(incident, "-v")
    assert "Masked: " in text
    assert "query value token" in text
