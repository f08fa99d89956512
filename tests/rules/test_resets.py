"""What a RST tells of who sent it."""

import pytest

from pcapdiag.rules._resets import has_foreign_hops
from tests.rules.builders import Scene, rst


@pytest.mark.parametrize(
    ("own", "of_rst", "is_foreign"),
    [
        (64, 64, False),
        (60, 61, True),
        (60, 124, False),  # a stack that starts its RST at 128, as many hops away
        (60, 251, False),
        (60, 255, True),
        (60, -1, False),
        (-1, 61, False),
    ],
)
def test_hops_are_compared_and_not_ttls(own, of_rst, is_foreign):
    scene = Scene()
    loss = scene.lost(rst(160, ttl=of_rst), resp_ttl=own)
    assert has_foreign_hops(scene.analysis(loss), loss) is is_foreign
