"""Facts about every protocol that is told apart."""

from pathlib import Path

from pcapdiag.base.codes import Protocol
from pcapdiag.base.protocols import PROTOCOL_FACTS

ENGINE = Path(__file__).resolve().parents[2] / "pcapdiag" / "engine"


def test_every_protocol_has_its_facts_but_one_that_nothing_tells():
    assert set(Protocol) - set(PROTOCOL_FACTS) == {Protocol.MEMCACHED}
    modules = list(ENGINE.rglob("*.py"))
    assert any("Protocol.FASTCGI" in path.read_text() for path in modules)
    assert not any("Protocol.MEMCACHED" in path.read_text() for path in modules)


def test_no_two_are_called_alike():
    assert len({facts.name for facts in PROTOCOL_FACTS.values()}) == len(PROTOCOL_FACTS)
