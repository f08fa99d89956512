"""The recordings that the tests of the lab share: all are played at once, for most of what they do is to wait."""

import pytest

from tests.lab.network import remove_leftovers, why_not
from tests.lab.oracle import Recording
from tests.lab.record import SCENARIOS, missing, record_together


@pytest.fixture(scope="session")
def recordings(request, tmp_path_factory):
    """Return a function that gives the recording of a scenario; it waits until that one is there."""
    if reason := why_not():
        pytest.skip(f"the live lab cannot run: {reason}")
    remove_leftovers()
    asked = {item.callspec.params.get("name") for item in request.session.items if hasattr(item, "callspec")}
    wanted = [name for name in SCENARIOS if name in asked and not missing(SCENARIOS[name])]
    pool, futures = record_together(wanted, tmp_path_factory.mktemp("lab"))
    known = {}

    def recording(name):
        if absent := missing(SCENARIOS[name]):
            pytest.skip(f"the live lab cannot play {name}: not installed: {', '.join(absent)}")
        if name not in known:
            known[name] = Recording(futures[name].result())
        return known[name]

    yield recording
    pool.shutdown(cancel_futures=True)
