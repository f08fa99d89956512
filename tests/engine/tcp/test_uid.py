"""Community IDs are those that Zeek, Suricata and Wireshark print for the same endpoints."""

import pytest

from pcapdiag.engine.tcp.uid import community_id, connection_uid


def v4(text, port):
    value = int.from_bytes(bytes(map(int, text.split("."))), "big")
    return (0, 0xFFFF << 32 | value, port)


def v6(upper, lower, port):
    return (upper, lower, port)


# Baseline of the specification's reference implementation, seed 0, TCP.
KNOWN = [
    (v4("128.232.110.120", 34855), v4("66.35.250.204", 80), "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
    (v4("1.2.3.4", 1122), v4("5.6.7.8", 3344), "1:wCb3OG7yAFWelaUydu0D+125CLM="),
]


@pytest.mark.parametrize(("orig", "resp", "known"), KNOWN)
def test_published_identifiers_are_met_from_either_side(orig, resp, known):
    assert community_id(orig, resp) == known
    assert community_id(resp, orig) == known


def test_equal_addresses_are_ordered_by_port():
    assert community_id(v4("10.0.0.1", 5), v4("10.0.0.1", 80)) == community_id(v4("10.0.0.1", 80), v4("10.0.0.1", 5))
    assert community_id(v4("10.0.0.1", 5), v4("10.0.0.1", 80)) != community_id(v4("10.0.0.1", 5), v4("10.0.0.1", 81))


def test_a_mapped_address_is_ipv4_and_another_is_not():
    a, b = v6(0x20010DB8 << 32, 1, 1000), v6(0x20010DB8 << 32, 2, 80)
    assert community_id(a, b) == community_id(b, a)
    assert community_id(v6(0, 0xFFFF0A000001, 1), v6(0, 0xFFFF0A000002, 2)) == community_id(
        v4("10.0.0.1", 1), v4("10.0.0.2", 2)
    )
    assert community_id(v6(1, 0xFFFF0A000001, 1), b) != community_id(v4("10.0.0.1", 1), b)


def test_a_reused_port_has_the_same_community_id_and_another_uid():
    ends = KNOWN[0][:2]
    first, second = connection_uid(*ends, 5), connection_uid(*ends, 6)
    assert first == KNOWN[0][2] + "@5"
    assert second == KNOWN[0][2] + "@6"
