"""The same analysis with other addresses and names: nothing in it tells of the original ones."""

import dataclasses
from typing import NamedTuple

import pytest

import pcapdiag
from pcapdiag.analysis.disguise import disguise, disguise_analysis, teach
from pcapdiag.base.codes import Leg
from pcapdiag.base.units import format_endpoint
from pcapdiag.privacy.anonymize import KEY_BYTES, Anonymizer
from tests.conftest import ROOT

CASE = ROOT / "captures" / "idle_close_race_65s"


class Pair(NamedTuple):
    peer: str
    number: int


@dataclasses.dataclass(frozen=True)
class Thing:
    message: str
    remedy: str
    leg: Leg
    inner: object


@pytest.fixture(scope="module")
def anonymizer():
    return Anonymizer(bytes(range(KEY_BYTES)))


def test_every_text_is_mapped_wherever_it_stands_and_nothing_else(anonymizer):
    thing = Thing("10.1.1.1:80 closed", "wait", Leg.UPSTREAM, [Pair("10.1.1.1:80", 5), {"10.1.1.1": frozenset({1.5})}])
    other = disguise(thing, anonymizer)
    image = anonymizer.text("10.1.1.1")
    assert image != "10.1.1.1"
    assert other == Thing(
        f"{image}:80 closed", "wait", Leg.UPSTREAM, [Pair(f"{image}:80", 5), {image: frozenset({1.5})}]
    )
    assert isinstance(other.inner[0], Pair)
    assert other.leg is Leg.UPSTREAM


def test_an_analysis_keeps_its_numbers_and_loses_its_names():
    result = pcapdiag.analyze(
        CASE / "proxy.pcap", error_logs=[CASE / "error.log"], proxy_conf=CASE / "nginx.conf", redact=False
    )
    anonymizer = Anonymizer(bytes(range(KEY_BYTES)))
    before = result.analysis
    teach(anonymizer, before, (), [str(CASE / "error.log"), str(CASE / "nginx.conf")])
    after = disguise_analysis(before, anonymizer)
    assert [u.exchanges for u in after.upstreams] == [u.exchanges for u in before.upstreams]
    assert (after.exchanges["request_ts_ns"] == before.exchanges["request_ts_ns"]).all()
    assert len(after.log.entries) == len(before.log.entries)
    old = {str(u.endpoint.address) for u in before.upstreams}
    new = {str(u.endpoint.address) for u in after.upstreams}
    assert new == {anonymizer.text(address) for address in old}
    told = repr((after.upstreams, after.losses, after.log, after.settings, after.captures))
    assert [address for address in old if address in told] == []
    assert str(CASE) not in told


def test_texts_of_the_capture_keep_their_places():
    result = pcapdiag.analyze(CASE / "proxy.pcap", redact=False)
    anonymizer = Anonymizer(bytes(range(KEY_BYTES)))
    teach(anonymizer, result.analysis, (), ())
    after = disguise_analysis(result.analysis, anonymizer)
    row = next(row for chunk in result.analysis.exchanges.chunks() for row in chunk.rows if row["host_len"] > 0)
    offset, length = int(row["text_offset"] + row["target_len"]), int(row["host_len"])
    host = result.analysis.texts.read(offset, length)
    assert len(after.texts.read(offset, length)) == length
    assert after.texts.read(offset, length) != host


def test_icmp_errors_have_other_addresses_and_no_bytes():
    before = pcapdiag.analyze(ROOT / "captures" / "icmp_prohibited" / "capture.pcap", redact=False).analysis
    anonymizer = Anonymizer(bytes(range(KEY_BYTES)))
    teach(anonymizer, before, (), [])
    after = disguise_analysis(before, anonymizer)
    for old, new in zip(before.losses, after.losses, strict=True):
        assert new.icmp[0].sender == anonymizer.address(*old.icmp[0].sender) != old.icmp[0].sender
        ends = format_endpoint(*new.icmp[0].src), format_endpoint(*new.icmp[0].dst)
        assert ends == (str(new.connection.orig), str(new.connection.resp))
    assert [(a.frame, a.data, a.src) for a in after.asides] == [(a.frame, b"", (0, 0, -1)) for a in before.asides]


@pytest.mark.parametrize("conf", [True, False], ids=["with configuration", "log alone"])
def test_names_that_another_proxys_log_and_configuration_have_for_servers_are_names(conf, tmp_path):
    case = ROOT / "captures" / "haproxy_as_proxy"
    given = {}
    for name in ("haproxy.log", "haproxy.cfg"):
        text = (case / name).read_text()
        for old, new in (
            ("be/s1", "payments/berlin7"),
            ("server s1", "server berlin7"),
            ("backend be", "backend payments"),
        ):
            text = text.replace(old, new)
        given[name] = tmp_path / name
        given[name].write_text(text)
    more = {"proxy_conf": given["haproxy.cfg"]} if conf else {}
    result = pcapdiag.analyze(case / "proxy.pcap", access_logs=[given["haproxy.log"]], **more)
    anonymizer = Anonymizer(bytes(range(KEY_BYTES)))
    teach(anonymizer, result.analysis, (), [])
    after = disguise_analysis(result.analysis, anonymizer)
    told = repr((after.log, after.settings))
    assert len(after.log.entries) == 4
    assert "payments" not in told
    assert "berlin7" not in told
