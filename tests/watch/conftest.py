"""Starts flight recorders, and ends them."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))
from watch_process import Watching


@pytest.fixture
def watching():
    """Start recorders; what is still running in the end is killed."""
    started = []

    def start(*arguments, **options):
        started.append(Watching(*arguments, **options))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.end()
