"""From a frame of a capture to a file and the number that Wireshark shows there."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.engine.capture.batch import Capture
from pcapdiag.report.frame_numbers import FrameLocator, FrameNumbers
from tests.report.builders import capture_file


def captures_of(*sizes):
    """Return captures of files with so many frames each."""
    made = []
    for number, files in enumerate(sizes):
        starts = np.cumsum([0, *files])
        made.append(
            Capture(
                [
                    capture_file(path=f"{number}/{k}.pcap", n_frames=n, first_frame=int(start))
                    for k, (n, start) in enumerate(zip(files, starts, strict=False))
                ],
                [],
            )
        )
    return made


def test_numbers_begin_at_one_in_every_file():
    locator = FrameLocator(captures_of([3, 2], [4]))
    assert [locator.locate(0, frame) for frame in (0, 2, 3, 4)] == [
        ("0/0.pcap", 1),
        ("0/0.pcap", 3),
        ("0/1.pcap", 1),
        ("0/1.pcap", 2),
    ]
    assert locator.locate(1, 3) == ("1/0.pcap", 4)


def test_no_frame_has_no_place():
    assert FrameLocator(captures_of([3])).locate(0, -1) == ("", -1)
    assert FrameLocator([Capture([], [])]).locate(0, 5) == ("", -1)


@given(st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=4), min_size=1, max_size=3), st.data())
def test_many_at_once_have_the_places_that_each_has_alone(sizes, data):
    captures = captures_of(*sizes)
    asked = data.draw(
        st.lists(
            st.integers(0, len(sizes) - 1).flatmap(lambda k: st.tuples(st.just(k), st.integers(-1, sum(sizes[k]) - 1))),
            max_size=20,
        )
    )
    idx, frames = (np.array([pair[part] for pair in asked], dtype=np.int64) for part in (0, 1))
    paths, numbers = FrameNumbers(captures).number(idx, frames)
    locator = FrameLocator(captures)
    assert list(zip(paths, numbers.tolist(), strict=True)) == [locator.locate(*pair) for pair in asked]
