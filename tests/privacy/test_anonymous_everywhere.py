"""No address, host or file name of the input survives in anything that --anonymize writes, however it is spelled."""

import ipaddress
import json
import re

import pytest

from tests.privacy import planted
from tests.privacy.test_planted_everywhere import everything_in, run
from tests.ticket.evidence import scenes

pytestmark = pytest.mark.compiled_only

PROXY, PEER, PEER6, PROXY6 = "10.77.2.90", "10.77.2.80", "2001:db8:77::80", "2001:db8:77::90"
KEY = "of these tests: with one of chance a pseudonym might spell acme now and then"
CLIENT = "198.51.100.23"
HOST, NODE, BLOCK = "billing7.acme.test", "acmenode9", "Orders_pool7"
CAPTURE, CAPTURE6, LOG, ACCESS, CONF = (
    "acme-edge3.pcap",
    "v6-acme.pcap",
    "acme-edge.error.log",
    "acme.log",
    "edge4.conf",
)


def spellings(address):
    """Return every way in which an address may be written, the percent sign's aside."""
    value = ipaddress.ip_address(address)
    if value.version == 6:
        return {
            *(value.compressed, value.exploded, value.reverse_pointer, value.packed.hex(), value.compressed.upper()),
            value.compressed.replace(":", "%3A"),
        }
    octets = address.split(".")
    return {
        *(address, "-".join(octets), "_".join(octets), "-".join(reversed(octets)), "%2E".join(octets)),
        *(value.packed.hex(), f"0x{value.packed.hex().upper()}", value.packed[::-1].hex(), str(int(value))),
        *(value.reverse_pointer, ".".join(o.zfill(3) for o in octets), ".".join(f"0x{int(o):02x}" for o in octets)),
        *(f"::ffff:{address}", f"::ffff:{value.packed.hex()[:4]}:{value.packed.hex()[4:]}", f"64:ff9b::{address}"),
    }


ADDRESSES = (PROXY, PEER, PEER6, PROXY6)
NAMES = (HOST, NODE, BLOCK, "acme", "edge3", "edge4")
NEEDLES = {
    **{form.lower().encode(): f"{address} as {form}" for address in ADDRESSES for form in spellings(address)},
    **{name.lower().encode(): name for name in (*NAMES, CLIENT)},
}


def targets():
    for address in ADDRESSES:
        for form in sorted(spellings(address)):
            yield f"/x/{form}/y"
            if ":" not in form:
                yield f"/node-{form}/"
    yield from (f"/h/{HOST}", f"/h/{HOST.upper()}", f"/h/{HOST.replace('.', '%2E')}", f"/h/req-{HOST}-17/x")
    yield from (f"/h/{NODE}", f"/h/a-{NODE}-b", f"/h/{NODE}.log", f"/ip-{PEER.replace('.', '-')}.internal/")


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scene")
    races = [
        scenes.race(
            conn=number,
            start_ns=number * 2_000_000,
            request=planted.request(target, host=f"{HOST}:8080", fields=[f"X-Request-ID: {HOST}-{number:04d}"]),
            response=planted.response(200, "OK"),
        )
        for number, target in enumerate(targets())
    ]
    other = scenes.race(request=planted.request("/", host=NODE), response=planted.response(200, "OK"))
    scenes.write(folder / CAPTURE, scenes.in_time(*races), orig=PROXY, resp=PEER)
    scenes.write(folder / CAPTURE6, other, orig=PROXY6, resp=PEER6)
    (folder / LOG).write_text(
        "".join(
            f"2023/11/14 22:13:{24 + n} [error] 7#7: *{n + 1} {planted.CLOSED}, client: {CLIENT}, server: {HOST}, "
            f'request: "GET {target} HTTP/1.1", upstream: "http://{PEER}:80{target}", host: "{HOST}"\n'
            for n, target in enumerate(list(targets())[:5])
        )
    )
    (folder / ACCESS).write_text(
        f'{CLIENT} - - [14/Nov/2023:22:13:24 +0000] "GET / HTTP/1.1" 502 157 "https://{HOST}/" "curl/8"\n'
    )
    (folder / CONF).write_text(
        f"http {{ upstream {BLOCK} {{ server {PEER}:80; server [{PEER6}]:80; keepalive 32; keepalive_timeout 60s; }}\n"
        f"server {{ server_name {HOST} {NODE}; location / {{ proxy_pass http://{BLOCK}; proxy_http_version 1.1;\n"
        'proxy_set_header Connection ""; } } }\n'
    )
    return folder


def written_by(scene, command, folder, *more):
    logs = ["--error-log", scene / LOG, "--access-log", scene / ACCESS, "--proxy-conf", scene / CONF]
    captures = [scene / CAPTURE, scene / CAPTURE6]
    if command == "slice":
        told = run("slice", *captures, *logs, "-o", folder / "evidence.pcapng", *more)
    elif command == "bundle":
        told = run("analyze", *captures, *logs, "--bundle", folder / "incident.zip", *more)
    else:
        told = run("analyze", *captures, *logs, "--format", command, "-o", folder / "out", *more)
    return {"told": told, **everything_in(folder)}


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("PCAPDIAG_ANONYMIZE_KEY", KEY)


def surviving(outputs):
    packed = {ipaddress.ip_address(address).packed: f"{address} in packets" for address in ADDRESSES}
    found = set()
    for name, data in outputs.items():
        for part, content in planted.parts_of(name, data):
            for form in planted.forms_of(content):
                found |= {(what, part) for needle, what in NEEDLES.items() if needle in form.lower()}
            if part.endswith(".pcapng"):
                found |= {(what, part) for needle, what in packed.items() if needle in content}
    return sorted(found)


COMMANDS = ["terminal", "markdown", "html", "json", "csv", "parquet", "jira", "slack", "bundle", "slice"]


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_of_the_input_survives(command, scene, tmp_path):
    assert surviving(written_by(scene, command, tmp_path, "--anonymize")) == []


def test_it_is_all_there_where_nobody_asks(scene, tmp_path):
    """Otherwise the test above would prove nothing."""
    found = {what for what, _ in surviving(written_by(scene, "json", tmp_path))}
    assert len(found) > 0.8 * len(NEEDLES)


def test_an_address_in_a_target_has_the_pseudonym_of_the_address(scene, tmp_path):
    run("analyze", scene / CAPTURE, "--format", "json", "-o", tmp_path / "out", "--anonymize")
    report = json.loads((tmp_path / "out").read_text())
    shown = [o["target"] for f in report["findings"] for o in f["occurrences"]]
    other = report["upstreams"][0]["endpoint"].rpartition(":")[0]
    value = ipaddress.ip_address(other)
    for form in (other, "-".join(other.split(".")), value.packed.hex(), str(int(value)), value.reverse_pointer):
        assert [t for t in shown if form in t], form
    assert [t for t in shown if re.fullmatch(rf"/node-{re.escape(other)}/", t)]
