"""Both ends of a scenario, read and compared."""

import pytest

from pcapdiag.analysis.build import build_analysis
from pcapdiag.analysis.ends.compare import End, compare_ends
from pcapdiag.analysis.ends.segments import SegmentLog
from pcapdiag.engine.capture.series import group_captures


def read_end(paths):
    segments = SegmentLog()
    return End(build_analysis(group_captures([str(p) for p in paths]), segment_sink=segments.append), segments)


@pytest.fixture(scope="session")
def both_ends():
    """Return a function that reads and compares two ends: the proxy's analysis and what the other end adds."""

    def compare(near_paths, far_paths):
        near = read_end(near_paths)
        return near.analysis, compare_ends(near, read_end(far_paths))

    return compare
