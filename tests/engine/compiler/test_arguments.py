"""What kernels are declared to take is what they are given, or it is refused."""

from typing import Annotated, NamedTuple

import numpy as np
import pytest

from pcapdiag.engine.compiler.arguments import Arguments, ArrayOf, Bytes

ROW = np.dtype([("a", "i8"), ("b", "i2")], align=True)


class Pair(NamedTuple):
    rows: Annotated[np.ndarray, ArrayOf(ROW)]
    at: int


def scan(buffer: Bytes, start: int, is_last: bool, pair: Pair): ...


BUFFER = np.zeros(8, dtype=np.uint8)
PAIR = Pair(np.zeros(3, dtype=ROW), 7)


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def test_arguments_are_handed_over_as_integers():
    flat = Arguments(scan).flatten((BUFFER, np.int64(-5), True, PAIR))
    header = [0, 0, 8, 1, BUFFER.ctypes.data, 8, 1]
    assert flat == [*header, -5, 1, 0, 0, 3, 16, PAIR.rows.ctypes.data, 3, 16, 7]
    assert len(flat) == len(Arguments(scan).machine_types())


def test_an_example_of_each_argument_is_accepted():
    Arguments(scan).flatten(Arguments(scan).examples())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((BUFFER.astype(np.int8), 0, False, PAIR), "other arguments"),
        ((BUFFER.reshape(2, 4), 0, False, PAIR), "other arguments"),
        ((bytes(8), 0, False, PAIR), "other arguments"),
        ((7, 0, False, PAIR), "other arguments"),
        ((BUFFER[::2], 0, False, PAIR), "contiguous"),
        ((read_only(BUFFER), 0, False, PAIR), "written"),
        ((BUFFER, 0.0, False, PAIR), "other arguments"),
        ((BUFFER, True, False, PAIR), "other arguments"),
        ((BUFFER, 0, 1, PAIR), "other arguments"),
        ((BUFFER, 0, False, tuple(PAIR)), "other arguments"),
        ((BUFFER, 0, False, Pair(PAIR.rows.astype(np.dtype([("a", "i8"), ("b", "i2")])), 7)), "other arguments"),
        ((BUFFER, 0, False), "3 were passed"),
        ((BUFFER, 0, False, PAIR, 0), "5 were passed"),
    ],
)
def test_arguments_that_the_code_was_not_made_for_are_refused(arguments, message):
    with pytest.raises(TypeError, match=message):
        Arguments(scan).flatten(arguments)


def test_rows_of_another_layout_are_other_arguments():
    digests = set()
    for dtype in (ROW, np.dtype([("a", "i8"), ("b", "i2")]), np.dtype([("a", "i8"), ("c", "i2")], align=True)):

        def read(rows: Annotated[np.ndarray, ArrayOf(dtype)]): ...

        digests.add(Arguments(read).digest())
    assert len(digests) == 3


def test_every_argument_is_declared():
    def read(buffer: Bytes, start): ...

    with pytest.raises(TypeError, match="is declared by an annotation"):
        Arguments(read)


@pytest.mark.parametrize("annotation", [np.ndarray, float, "int", tuple, Annotated[np.ndarray, "a note"]])
def test_an_annotation_that_says_too_little_is_refused(annotation):
    def read(buffer: annotation): ...

    with pytest.raises(TypeError, match="declares no argument"):
        Arguments(read)
