"""Both ends of a scenario, read and compared."""

import pytest

from pcapdiag.api import run_engine
from pcapdiag.capture.series import group_captures
from pcapdiag.ends.compare import End, compare_ends
from pcapdiag.ends.segments import SegmentLog


def read_end(paths):
    segments = SegmentLog()
    return End(run_engine(group_captures([str(p) for p in paths]), segment_sink=segments.append), segments)


@pytest.fixture(scope="session")
def both_ends():
    """Return a function that reads and compares two ends: the proxy's analysis and what the other end adds."""

    def compare(near_paths, far_paths):
        near = read_end(near_paths)
        return near.analysis, compare_ends(near, read_end(far_paths))

    return compare
