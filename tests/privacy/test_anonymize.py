"""The same machine gets the same other address everywhere, networks stay together, and nobody tells the key."""

import re
import socket
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.base.errors import UsageError
from pcapdiag.privacy.anonymize import KEY_VARIABLE, Anonymizer

# Key and addresses of the sample trace that the authors of Crypto-PAn distribute.
KEY = bytes.fromhex("1522178d33a4cf80130a5b1649907d10d8988f837979652762574c2d2a842202")
TRACE = {
    "128.11.68.132": "135.242.180.132",
    "129.118.74.4": "134.136.186.123",
    "130.132.252.244": "133.68.164.234",
    "141.223.7.43": "141.167.8.160",
    "141.233.145.108": "141.129.237.235",
    "152.163.225.39": "151.140.114.167",
    "156.29.3.236": "147.225.12.42",
    "165.247.96.84": "162.9.99.234",
    "166.107.77.190": "160.132.178.185",
    "24.0.250.221": "100.15.198.226",
}
SECRET = bytes(range(32))

V4 = st.integers(1 << 24, (224 << 24) - 1).filter(lambda a: a >> 24 != 127)
V6 = st.integers(1 << 120, (255 << 120) - 1)


@pytest.fixture(scope="module")
def anonymizer():
    return Anonymizer(KEY + SECRET)


@pytest.mark.parametrize(("address", "image"), TRACE.items())
def test_addresses_of_the_authors_trace_become_theirs(address, image, anonymizer):
    assert anonymizer.text(address) == image


def common(a, b, bits):
    return bits - (a ^ b).bit_length()


@given(V4, V4, st.integers(0, 24))
def test_a_network_of_ipv4_stays_a_network(anonymizer, a, other, n_shared):
    """From 8 bits on; whether an address names a machine is a matter of its first octet."""
    mask = (1 << 24 - n_shared) - 1
    b = a & ~mask | other & mask
    assert common(anonymizer.ipv4(a), anonymizer.ipv4(b), 32) == common(a, b, 32)


@given(V6, V6, st.integers(0, 120))
def test_a_network_of_ipv6_stays_a_network(anonymizer, a, other, n_shared):
    mask = (1 << 120 - n_shared) - 1
    b = a & ~mask | other & mask
    assert common(anonymizer.ipv6(a), anonymizer.ipv6(b), 128) == common(a, b, 128)


@given(V4)
def test_the_image_of_a_machine_is_one_that_a_machine_may_have(anonymizer, address):
    image = anonymizer.ipv4(address)
    assert 1 <= image >> 24 <= 223
    assert image >> 24 != 127


class Identity:
    """The worst key there is: it changes no address."""

    def anonymize_bin(self, value, version):
        assert version in {4, 6}
        return value


@pytest.mark.parametrize("address", ["64:ff9b::10.1.2.3", "::a01:203", "2001:db8::1", "10.1.2.3", "0.0.0.7", "ff02::1"])
def test_whatever_the_key_is_the_search_for_an_image_ends(address):
    anonymizer = Anonymizer(KEY + SECRET)
    anonymizer._crypto_pan = Identity()
    assert anonymizer.text(address)


def test_no_two_reserved_addresses_become_one(anonymizer):
    values = [0x64FF9B << 96 | n for n in range(50)]
    images = {anonymizer.ipv6(value) for value in values}
    assert len(images) == len(values)
    assert not images & set(values)


def test_no_two_networks_become_one(anonymizer):
    octets = [o for o in range(1, 224) if o != 127]
    assert sorted(anonymizer.ipv4(o << 24) >> 24 for o in octets) == octets


@pytest.mark.parametrize(
    "address", ["0.0.0.1", "127.0.0.1", "127.9.9.9", "224.0.0.251", "255.255.255.255", "::", "::1"]
)
def test_what_names_no_machine_stays(address, anonymizer):
    assert anonymizer.text(address) == address


def test_of_a_multicast_address_the_group_goes(anonymizer):
    assert anonymizer.text("ff02::1:ff12:3456") == "ff02::"


def test_an_address_is_the_same_one_in_every_notation(anonymizer):
    value = int(IPv4Address("10.1.2.3"))
    image = str(IPv4Address(anonymizer.ipv4(value)))
    assert anonymizer.text("10.1.2.3") == image
    assert anonymizer.text("::ffff:10.1.2.3") == f"::ffff:{image}"
    assert anonymizer.address(0, 0xFFFF << 32 | value) == (0, 0xFFFF << 32 | int(IPv4Address(image)))
    assert anonymizer.packed(IPv4Address("10.1.2.3").packed) == IPv4Address(image).packed
    v6 = IPv6Address("2001:db8::5")
    assert anonymizer.packed(v6.packed) == IPv6Address(anonymizer.text(str(v6))).packed


@given(st.binary(min_size=6, max_size=6))
def test_a_link_address_becomes_a_local_one_of_one_machine(anonymizer, mac):
    image = anonymizer.mac(mac)
    if mac in {b"\0" * 6, b"\xff" * 6}:
        assert image == mac
    elif mac[0] & 1:
        assert image == mac[:1] + b"\0" * 5
    else:
        assert image[0] & 3 == 2
        assert anonymizer.text(mac.hex(":")) == image.hex(":")
        assert anonymizer.text(mac.hex("-")) == image.hex("-")


@given(st.from_regex(r"[a-z]{1,12}(\.[a-z0-9]{1,12}){0,4}", fullmatch=True))
def test_a_name_keeps_its_length_and_its_dots(anonymizer, name):
    image = anonymizer.name(name)
    assert [len(label) for label in image.split(".")] == [len(label) for label in name.split(".")]
    assert anonymizer.name(name.upper()).lower() == image.lower()


def test_names_under_one_domain_stay_under_one_domain(anonymizer):
    a, b, c = (anonymizer.name(n) for n in ("api.shop.example", "web.shop.example", "api.other.example"))
    assert a.partition(".")[2] == b.partition(".")[2] != c.partition(".")[2]
    assert a.partition(".")[0] != c.partition(".")[0]


@pytest.mark.parametrize("length", [1, 2])
def test_short_labels_stay_apart(length, anonymizer):
    labels = ["a", "b", "c", "x", "1"] if length == 1 else ["ab", "ba", "de", "10", "fr"]
    assert len({anonymizer.name(label) for label in labels}) == len(labels)


@pytest.mark.parametrize(
    "text",
    [
        "23:56:28.769 UTC on 2026-11-20",
        "nginx/1.22.1 and Node.js",
        "keepalive_pool.idle_timeout in nginx.conf, line 12",
        "frame 5 of proxy.pcap.",
        "64.9 s to 65.06 s",
        "1.2.3",
        "999.1.1.1",
        "localhost",
        "a::b::c",
    ],
)
def test_what_only_looks_like_an_address_stays(text, anonymizer):
    assert anonymizer.text(text) == text


def test_text_around_addresses_stays(anonymizer):
    image = anonymizer.text("10.1.2.3")
    assert anonymizer.text("upstream 10.1.2.3:80, [2001:db8::5]:80.").startswith(f"upstream {image}:80, [")
    assert anonymizer.text("http://a.example.test/x?y") == f"http://{anonymizer.name('a.example.test')}/x?y"


def test_names_without_a_dot_are_known_from_fields_and_logs():
    anonymizer = Anonymizer(KEY + SECRET)
    assert anonymizer.text("to billing7 it went") == "to billing7 it went"
    anonymizer.learn(names=["BILLING7:8080", "be", "upstream"])
    assert anonymizer.text("to billing7 it went") == f"to {anonymizer.name('billing7')} it went"
    assert anonymizer.text("to be upstream") == "to be upstream"


@pytest.mark.parametrize("name", ["api", "backend", "Acme_Orders", "billing.v2"])
def test_a_group_has_another_name_wherever_it_is_named(name):
    anonymizer = Anonymizer(KEY + SECRET)
    anonymizer.learn(groups=[name, "other"])
    for text in ("line 12, upstream {}: keepalive", "proxy_pass http://{};", "upstream {}"):
        assert name.lower() not in anonymizer.text(text.format(name)).lower()
    assert anonymizer.text("an api and a backend") == "an api and a backend"


def test_a_word_may_hold_an_address_and_a_name():
    anonymizer = Anonymizer(KEY + SECRET)
    image = anonymizer.text("10.77.2.80")
    value = int(IPv4Address(image))
    anonymizer.learn(names=["billing7"])
    assert anonymizer.text("/node-10.77.2.80/") == f"/node-{image}/"
    assert anonymizer.text("/ip-10-77-2-80/") == f"/ip-{image.replace('.', '-')}/"
    assert anonymizer.text("x0a4d0250 0a4d0250") == f"x0a4d0250 {value:08x}"
    assert anonymizer.text("0x0A4D0250") == f"0x{value:08X}"
    assert anonymizer.text("172819024") == str(value)
    assert anonymizer.text("80.2.77.10.in-addr.arpa") == IPv4Address(image).reverse_pointer
    assert anonymizer.text("010.077.002.080") == image
    assert anonymizer.text("10%2E77%2E2%2E80") == image
    assert anonymizer.text("a-billing7-b") == f"a-{anonymizer.name('billing7')}-b"


@pytest.mark.parametrize("text", ["build 20231114", "sha 0123abcd", "2023-11-14", "v1-2-3-4", "1700000000"])
def test_what_is_only_a_number_stays_unless_it_is_known(text, anonymizer):
    assert anonymizer.text(text) == text


def test_of_files_only_the_kind_is_told():
    anonymizer = Anonymizer(KEY + SECRET)
    anonymizer.learn(paths=["/srv/acme/proxy.pcap", "/srv/acme/a b.error.log.gz"])
    assert anonymizer.text("/srv/acme/proxy.pcap:12") == "capture-1.pcap:12"
    assert anonymizer.text("frame 5 of proxy.pcap.") == "frame 5 of capture-1.pcap."
    assert anonymizer.text("a b.error.log.gz") == "log-2.log.gz"
    assert anonymizer.text("open() {}/x failed".format("/" + "home/alice")) == "open() {}/x failed".format(
        "/" + "home/x"
    )


@given(st.text(max_size=200))
def test_a_text_of_the_same_length_keeps_its_length(anonymizer, text):
    assert len(anonymizer.text(text, same_length=True)) == len(text)


@given(st.lists(st.sampled_from(["10.1.2.3", "2001:db8::5", "de:ad:be:ef:00:01", " ", ":", "/", ".", "x", "1"])))
def test_no_whole_address_survives(anonymizer, parts):
    text = anonymizer.text(" ".join(parts))
    assert not re.search(r"(?<![\w.])10\.1\.2\.3(?![\w.])|2001:db8::5(?![\w:])|de:ad:be:ef:00:01", text)


@pytest.mark.parametrize(
    ("host", "port"),
    [("a.example.test", ":8080"), ("a.example.test", ""), ("10.1.2.3", ":80"), ("[2001:db8::5]", ":80")],
)
def test_a_host_keeps_its_port(host, port, anonymizer):
    image = anonymizer.host(host + port)
    assert image.endswith(port)
    assert image != host + port


def test_without_a_key_every_run_has_its_own(monkeypatch):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    assert Anonymizer.from_environment().text("10.1.2.3") != Anonymizer.from_environment().text("10.1.2.3")


def test_with_a_key_runs_agree(monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, "a key that is long enough")
    first, second = Anonymizer.from_environment(), Anonymizer.from_environment()
    assert first.text("10.1.2.3 a.example.test") == second.text("10.1.2.3 a.example.test")
    monkeypatch.setenv(KEY_VARIABLE, "another key, long enough")
    assert Anonymizer.from_environment().text("10.1.2.3") != first.text("10.1.2.3")


def test_a_short_key_is_refused_and_never_told(monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, "hunter2")
    with pytest.raises(UsageError) as caught:
        Anonymizer.from_environment()
    assert "hunter2" not in str(caught.value)


def test_the_key_is_in_no_representation(monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, "a key that is long enough")
    anonymizer = Anonymizer.from_environment()
    assert repr(anonymizer) == "<Anonymizer>"


FORMS = [
    "0300.0250.1.7",
    "0xc0.0250.1.7",
    "192.168.263",
    "192.11010311",
    "0300.11010311",
    "030052000407",
    "0xC0.0xA80107",
]


@pytest.mark.parametrize("form", FORMS)
def test_what_inet_aton_reads_is_known_and_written_alike(form):
    anonymizer = Anonymizer(KEY + SECRET)
    assert anonymizer.text(f"GET /{form}/x") == f"GET /{form}/x", "what occurs nowhere as an address is none"
    anonymizer.learn(texts=["192.168.1.7"])
    image = anonymizer.text(f"GET /{form}/x").split("/")[1]
    assert IPv4Address(socket.inet_aton(image)) == IPv4Address(anonymizer.text("192.168.1.7"))
    assert image.count(".") == form.count(".")


@given(V4, st.integers(1, 4), st.sampled_from("dox"))
def test_parts_of_any_base_are_read_and_written_as_inet_aton_does(value, n_parts, base):
    anonymizer = Anonymizer(KEY + SECRET)
    anonymizer.learn(texts=[str(IPv4Address(value))])
    data = value.to_bytes(4, "big")
    values = [*data[: n_parts - 1], int.from_bytes(data[n_parts - 1 :], "big")]
    form = ".".join({"d": f"{v}", "o": f"0{v:o}", "x": f"0x{v:x}"}[base] for v in values)
    image = anonymizer.text(f"http://{form}:80/").removeprefix("http://").removesuffix(":80/")
    assert IPv4Address(socket.inet_aton(image)) == IPv4Address(anonymizer.ipv4(value))


def test_a_version_is_no_short_address_but_a_host_is():
    anonymizer = Anonymizer(KEY + SECRET)
    anonymizer.learn(texts=["10.0.0.1"])
    for text in ("nginx 10.1", "curl/10.1", "version 10.1.", "10.1 s", "10.2", "http://10.2/"):
        assert anonymizer.text(text) == text
    for text in ("http://10.1/a", "user@10.1", "to 10.1:8080"):
        assert "10.1" not in anonymizer.text(text)


def test_the_first_label_of_a_name_is_known_where_it_is_no_word():
    anonymizer = Anonymizer(KEY + SECRET)
    anonymizer.learn(names=["web-7.prod.example.com", "orders.example.com", "utf-8.example.com", "db12.example.com:80"])
    long = anonymizer.name("web-7.prod.example.com")
    assert anonymizer.text("upstream web-7 failed") == f"upstream {long.partition('.')[0]} failed"
    assert "db12" not in anonymizer.text("/db12/x db12_a")
    for text in ("orders failed", "charset utf-8", "web 7", "web-70", "web-8"):
        assert anonymizer.text(text) == text
