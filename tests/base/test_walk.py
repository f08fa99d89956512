"""Every text of plain data is mapped, and told which field it is of."""

import dataclasses
from enum import StrEnum
from typing import NamedTuple

from pcapdiag.base.walk import map_texts


class Kind(StrEnum):
    ODD = "odd"


class Pair(NamedTuple):
    host: str
    number: int


@dataclasses.dataclass(frozen=True)
class Thing:
    message: str
    kind: Kind
    inner: object = None
    made: str = dataclasses.field(default="as it is", init=False)


def test_texts_are_mapped_wherever_they_stand_and_told_the_nearest_name():
    thing = Thing("a", Kind.ODD, [Pair("b", 5), {"c": ("d", frozenset({"e"}), 1.5, None)}])
    assert map_texts(thing, lambda text, field: f"{field}:{text}") == Thing(
        "message:a",
        Kind.ODD,
        [Pair("host:b", 5), {"inner:c": ("c:d", frozenset({"c:e"}), 1.5, None)}],
    )


def test_what_is_to_be_left_is_left():
    pair = Pair("b", 5)
    assert map_texts([pair, "b"], lambda text, _: text.upper(), leave=(Pair,)) == [pair, "B"]
    assert map_texts(Thing, lambda text, _: text.upper()) is Thing


def test_parts_without_another_text_are_shared_unless_they_may_change_later():
    same, listed = Thing("b", Kind.ODD, ("b", 5)), Thing("b", Kind.ODD, ["b"])
    whole = Thing("a", Kind.ODD, (same, listed))
    mapped = map_texts(whole, lambda text, _: text.replace("a", "A"))
    assert mapped == Thing("A", Kind.ODD, (same, listed))
    assert mapped.inner[0] is same
    assert mapped.inner[1].inner is not listed.inner
