"""Logs that were given twice are told by their first lines."""

import gzip
import tracemalloc

import pytest

from pcapdiag.proxy.logs.copies import find_copies, find_overlaps

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


def test_the_end_of_one_log_that_another_begins_with_counts_once(written):
    older, newer = written("a.log.1", LINES[:6]), written("a.log", LINES[4:])
    assert find_overlaps([newer, older]) == ({older: (5, newer)}, {})
    # Windows of an export that has the latest line first.
    late, early = written("late", LINES[:3:-1]), written("early.gz", LINES[5::-1])
    assert find_overlaps([late, early]) == ({late: (4, early)}, {})
    third = written("third", ["before\n", *LINES[:2]])
    assert find_overlaps([third, older, newer]) == ({older: (5, newer), third: (2, older)}, {})


def test_a_piece_of_another_log_counts_once(written):
    whole, piece = written("whole", LINES), written("piece", LINES[3:6])
    assert find_overlaps([piece, whole]) == ({}, {piece: whole})


def test_lines_alike_of_two_logs_are_two_events(written):
    """Two proxies, or two requests of one second on either side of a rotation: nothing but the row tells."""
    same = ["10.0.0.1 GET /health 200\n"] * 5
    for first, second in ((same, same[:3]), (["a\n", *same], [*same, "b\n"]), (LINES[:5], ["line 3\n", "other\n"])):
        assert find_overlaps([written("a", first), written("b", second)]) == ({}, {})
    assert find_overlaps([written("a", LINES)]) == ({}, {})
    apart = [written("a", LINES[:5]), written("b", [*LINES[4:5], "x\n"]), written("empty", [])]
    assert find_overlaps(apart) == ({}, {})


@pytest.mark.parametrize(("line", "is_one"), [("2026/12/03 10:00:00 [error] 7#7: *5 x", True), ("GET / 502", False)])
def test_one_line_alone_must_name_its_connection(written, line, is_one):
    older, newer = written("a.1", ["first\n", f"{line}\n"]), written("a", [f"{line}\n", "last\n"])
    assert find_overlaps([older, newer]) == (({older: (2, newer)} if is_one else {}), {})


def test_long_lines_are_not_held(tmp_path):
    paths = []
    for name in "ab":
        path = tmp_path / f"{name}.log"
        path.write_text("".join(f"{name}{n}{'x' * 100_000}\n" for n in range(40)))
        paths.append(str(path))
    tracemalloc.start()
    try:
        assert find_overlaps(paths) == ({}, {})
        assert find_overlaps(paths[:1]) == ({}, {})
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 2_000_000
