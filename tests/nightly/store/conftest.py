"""A store in a folder of the test."""

import pytest

from pcapdiag.nightly.store.store import Store


@pytest.fixture
def store(tmp_path):
    with Store(str(tmp_path / "folder" / "store.db")) as opened:
        yield opened
