"""Notes are bounded in number."""

import ast
from pathlib import Path

import pcapdiag.engine.capture
from pcapdiag.base.findings import Note
from pcapdiag.engine.capture.notes import NOTE_CODES, PER_CODE, NoteBook


def test_few_notes_are_all_kept_in_order():
    book = NoteBook()
    notes = [Note("a", "1"), Note("b", "2"), Note("a", "3")]
    for note in notes:
        book.append(note)
    assert book.take() == notes
    assert book.take_rest() == []


def test_of_many_notes_of_one_code_the_first_are_kept_and_the_others_counted():
    book = NoteBook()
    for i in range(1000):
        book.append(Note("a", f"text {i}", frame=i, file="f"))
    book.append(Note("b", "another"))
    first = book.take()
    (rest,) = book.take_rest()
    assert [note.frame for note in first] == [*range(PER_CODE), -1]
    assert (rest.code, rest.frame, rest.file) == ("a", 999, "f")
    assert rest.text == f"and {1000 - PER_CODE} more like this, the last: text 999"


def test_the_bound_holds_over_several_takes():
    book = NoteBook()
    taken = []
    for i in range(50):
        book.append(Note("a", str(i)))
        taken += book.take()
    assert len(taken) == PER_CODE


def test_every_code_that_the_package_notes_is_listed_and_every_listed_one_is_noted():
    noted = set()
    for path in Path(pcapdiag.engine.capture.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                if name in {"Note", "_note_at"}:
                    noted.add(node.args[0].value)
            # The notes that are counted over a file are made from a table of (code, ...) rows.
            elif isinstance(node, ast.For) and isinstance(node.iter, ast.Tuple):
                noted |= {
                    row.elts[0].value for row in node.iter.elts if isinstance(row, ast.Tuple) and len(row.elts) == 4
                }
    assert noted == set(NOTE_CODES)
