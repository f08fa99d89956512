"""What a file is called instead."""

import pytest

from pcapdiag.privacy.files import alias_of, is_telling_stem, stem_of


@pytest.mark.parametrize(
    ("name", "alias"),
    [
        ("acme.pcapng.gz", "capture-3.pcapng.gz"),
        ("acme.error.log", "log-3.log"),
        ("acme.log.1", "log-3.log"),
        ("nginx.conf", "configuration-3.conf"),
        ("acme", "file-3"),
        ("acme.secret", "file-3"),
    ],
)
def test_kind_and_known_endings_are_told(name, alias):
    assert alias_of(name, 3) == alias


@pytest.mark.parametrize(
    ("stem", "is_it"), [("acme-edge3", True), ("proxy", False), ("error_log", False), ("db", False)]
)
def test_only_what_somebody_made_up_tells(stem, is_it):
    assert is_telling_stem(stem) is is_it


def test_a_stem_ends_at_the_first_dot():
    assert stem_of("/srv/Acme-Edge.error.log") == "acme-edge"
