"""A whole bundle, from a capture and its logs: nothing that must not leave is in any member of it."""

import io
import ipaddress
import zipfile

import pytest

import pcapdiag
from pcapdiag.base.errors import UsageError
from pcapdiag.ticket.manifest import NAME, parse_manifest
from tests.ticket.evidence import scenes

LOG = (
    "2026/11/20 23:56:01 [error] 7#7: *5 upstream prematurely closed connection while reading response header from "
    'upstream, client: 203.0.113.7, server: shop.example.test, request: "POST /orders?id=7&token={query} HTTP/1.1", '
    'upstream: "http://{user}@10.1.1.2:80/orders?token={query}", host: "shop.example.test", '
    'referrer: "https://{user}@a.example.test/x?q={query}"\n'
)


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp("case")
    scenes.write(folder / "proxy.pcap", scenes.race())
    (folder / "error.log").write_text(LOG.format(query=scenes.QUERY, user=scenes.USER))
    return folder


def members(case, **options):
    result = pcapdiag.analyze(case / "proxy.pcap", error_logs=[case / "error.log"], **options)
    file = io.BytesIO()
    result.write_bundle(file)
    with zipfile.ZipFile(file) as archive:
        return result, {name: archive.read(name) for name in archive.namelist()}


def test_a_bundle_says_why_in_every_form(case):
    result, files = members(case)
    assert list(files)[:4] == [NAME, "report.html", "report.md", "report.json"]
    assert {"ticket/jira.txt", "ticket/jira.adf.json", "evidence.pcapng", "charts/idle-gaps.png"} < set(files)
    assert result.findings["code"].tolist()[:1] == ["PD101"]
    for name in [n for n in files if n.startswith(("report", "ticket"))]:
        assert b"PD101" in files[name], name


def test_no_secret_is_in_any_member(case):
    _, files = members(case)
    found = {(name, secret) for name, data in files.items() for secret in scenes.SECRETS if secret.encode() in data}
    assert found == set()


def test_what_is_not_redacted_holds_them_and_says_so(case):
    """The test above could fail."""
    _, files = members(case, redact=False)
    assert not parse_manifest(files[NAME]).redacted
    assert all(secret.encode() in files["evidence.pcapng"] for secret in scenes.SECRETS)
    assert scenes.QUERY.encode() in files["report.json"]


def test_anonymous_means_every_member(case):
    result, plain = members(case)
    endpoints = {result.report.upstreams[0].endpoint, result.report.findings[0].occurrences[0].orig}
    addresses = {endpoint.rpartition(":")[0] for endpoint in endpoints} | {"203.0.113.7"}
    names = {*addresses, "shop.example.test", "a.example.test"}
    _, files = members(case, anonymize=True)
    assert parse_manifest(files[NAME]).anonymized
    texts = {name: data for name, data in files.items() if not name.endswith((".png", ".pcapng"))}
    assert {(n, text) for n, data in texts.items() for text in names if text.encode() in data} == set()
    raw = [ipaddress.ip_address(a).packed for a in addresses if a != "203.0.113.7"]
    assert all(address in plain["evidence.pcapng"] for address in raw)
    assert not any(address in files["evidence.pcapng"] for address in raw)


def test_a_bundle_is_the_same_for_the_same_key(case, monkeypatch):
    monkeypatch.setenv("PCAPDIAG_ANONYMIZE_KEY", "0f" * 32)
    assert members(case, anonymize=True)[1] == members(case, anonymize=True)[1]


def test_a_bundle_is_written_for_its_owner_and_over_nothing(case, tmp_path):
    result = pcapdiag.analyze(case / "proxy.pcap")
    result.write_bundle(tmp_path / "b.zip")
    before = (tmp_path / "b.zip").read_bytes()
    assert (tmp_path / "b.zip").stat().st_mode & 0o777 == 0o600
    with pytest.raises(UsageError, match="exists already"):
        result.write_bundle(tmp_path / "b.zip")
    result.write_bundle(tmp_path / "b.zip", force=True)
    assert (tmp_path / "b.zip").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["b.zip"]


def test_a_capture_that_is_gone_leaves_no_bundle(case, tmp_path):
    capture = tmp_path / "proxy.pcap"
    capture.write_bytes((case / "proxy.pcap").read_bytes())
    result = pcapdiag.analyze(capture)
    capture.unlink()
    with pytest.raises(pcapdiag.PcapdiagError):
        result.write_bundle(tmp_path / "b.zip")
    assert list(tmp_path.iterdir()) == []
