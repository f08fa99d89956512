"""Logs that were given twice are told by their first lines."""

import gzip

import pytest

from pcapdiag.proxy.logs.copies import find_copies

LINES = [f"line {n}\n" for n in range(9)]


@pytest.fixture
def written(tmp_path):
    """Return a function from a name and its lines to a file."""

    def write(name, lines):
        data = "".join(lines).encode()
        path = tmp_path / name
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return str(path)

    return write


def test_a_copy_counts_once_under_another_name_compressed_or_shorter(written):
    whole, same = written("a.log", LINES), written("b.log", LINES)
    packed, shorter = written("c.log.gz", LINES), written("d.log", LINES[:4])
    assert find_copies([shorter, whole, same, packed]) == {shorter: whole, same: whole, packed: whole}


def test_other_logs_are_no_copies(written):
    logs = [written("a", LINES), written("b", ["other\n", *LINES]), written("c", [*LINES[:4], "x\n"])]
    empty = [written("d", []), written("e", [])]
    assert find_copies([*logs, *empty]) == {}
    assert find_copies(logs[:1]) == {}
