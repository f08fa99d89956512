"""Notes are bounded in number."""

from pcapdiag.capture.notes import PER_CODE, NoteBook
from pcapdiag.findings import Note


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
