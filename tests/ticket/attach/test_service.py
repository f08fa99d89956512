"""What is done for every tracker, in which order, and what is left when it does not work out."""

import pytest

from pcapdiag.base.errors import AttachError
from pcapdiag.ticket.attach.service import Uploaded, deliver, plain_answers
from pcapdiag.ticket.attach.transport import RefusedError, UnclearError


class Ticket:
    """A ticket that remembers what was asked of it; `fails` are errors by the name of the step."""

    def __init__(self, *, takes_files=True, finds_files=True, comment=None, file=None, **fails):
        self.takes_files, self.finds_files = takes_files, finds_files
        self.comment, self.file, self.fails, self.asked = comment, file, fails, []

    def _do(self, step):
        self.asked.append(step)
        if step in self.fails:
            raise self.fails[step]

    def find_comment(self):
        self._do("find_comment")
        return self.comment

    def add_comment(self, file):
        self._do("add_comment")
        self.comment = f"comment with {file.key if file else 'nothing'}"
        return self.comment

    def find_file(self):
        self._do("find_file")
        return self.file

    def send_file(self):
        self._do("send_file")
        self.file = Uploaded("sent")
        return self.file

    def remove_file(self, file):
        self._do("remove_file")
        assert file is self.file
        self.file = None


def deliver_to(ticket):
    said = []
    return deliver(ticket, say=said.append, sleep=lambda _: None), said


def test_first_the_file_then_the_comment_that_names_it():
    ticket = Ticket()
    place, said = deliver_to(ticket)
    assert place == "comment with sent"
    assert said == ["the bundle was sent", "the comment was written"]
    assert ticket.asked.index("send_file") < ticket.asked.index("add_comment")


def test_what_is_there_already_is_used_and_a_second_run_changes_nothing():
    ticket = Ticket(comment="there", file=Uploaded("old"))
    assert deliver_to(ticket) == ("there", ["the bundle is there already", "the comment is there already"])
    assert not {"send_file", "add_comment"} & set(ticket.asked)


def test_a_tracker_that_takes_or_finds_no_files_is_sent_none_for_a_comment_that_is_there():
    for kind in ({"takes_files": False}, {"finds_files": False}):
        ticket = Ticket(comment="there", **kind)
        assert deliver_to(ticket)[0] == "there"
        assert ticket.asked == ["find_comment"]
    assert deliver_to(Ticket(takes_files=False))[0] == "comment with nothing"


def test_a_file_sent_for_a_comment_that_is_refused_is_taken_back():
    ticket = Ticket(add_comment=RefusedError("no", 403))
    with pytest.raises(AttachError, match=r"no; the bundle that was sent before was removed again"):
        deliver_to(ticket)
    assert ticket.file is None


def test_a_file_that_was_there_before_is_left_there():
    ticket = Ticket(file=Uploaded("old"), add_comment=RefusedError("no", 403))
    with pytest.raises(RefusedError, match=r"^no$"):
        deliver_to(ticket)
    assert ticket.file is not None


def test_that_the_file_could_not_be_taken_back_is_said():
    ticket = Ticket(add_comment=RefusedError("no", 403), remove_file=AttachError("gone"))
    with pytest.raises(AttachError, match=r"could not be removed again \(gone\)"):
        deliver_to(ticket)


def test_an_unclear_end_takes_nothing_back_and_says_what_stays():
    ticket = Ticket(add_comment=UnclearError("no answer"))
    with pytest.raises(AttachError, match="no answer; the bundle stays there"):
        deliver_to(ticket)
    assert ticket.file is not None


def test_an_answer_that_no_api_gives_is_one_sentence_without_its_text():
    said = r"^tracker\.example does not answer as its API does \(KeyError\); is the URL that of a ticket\?$"
    answer = {}
    with pytest.raises(AttachError, match=said), plain_answers("tracker.example"):
        answer["s3cr3t"].strip()
    with pytest.raises(ZeroDivisionError), plain_answers("tracker.example"):
        raise ZeroDivisionError
