"""Channels: names that may be shown, URLs that never are, and failures in words."""

import pytest

from pcapdiag.base.errors import UsageError
from pcapdiag.ticket.notify.channels import Channel, open_channels, send
from pcapdiag.ticket.notify.message import Message

pytestmark = [
    pytest.mark.compiled_only,
    # Apprise looks for a module that Python is about to drop.
    pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning"),
]

SECRET = "s3cr3t-t0k3n"  # noqa: S105 - made up


class Service:
    """Stands for Apprise: says that it was told, or fails."""

    def __init__(self, answer):
        self.answer = answer
        self.told = []

    def notify(self, **given):
        self.told.append(given)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_channels_are_named_by_their_kind_and_numbered():
    urls = [f"json://localhost/{SECRET}", f"xml://localhost/{SECRET}", f"JSON://localhost/{SECRET}2"]
    channels = open_channels(urls)
    assert [channel.name for channel in channels] == ["json-1", "xml-1", "json-2"]
    assert open_channels([]) == ()


@pytest.mark.parametrize("url", [SECRET, f"{SECRET}://x", "json://", f"json:/{SECRET}", ""])
def test_a_url_that_makes_no_sense_is_refused_by_its_number_and_not_shown(url):
    with pytest.raises(UsageError, match="URL 2 of those to notify") as refused:
        open_channels(["json://localhost/a", url])
    assert SECRET not in str(refused.value)


def test_what_was_sent_is_plain_text_and_leaves_no_word():
    service = Service(answer=True)
    assert send(Channel("json-1", service), Message("title", "body")) == ""
    assert [(told["title"], told["body"], told["body_format"].value) for told in service.told] == [
        ("title", "body", "text")
    ]


def test_why_it_could_not_be_sent_holds_nothing_of_the_url():
    assert (
        send(Channel("a", Service(answer=False)), Message("", "")) == "it could not be reached, or refused the message"
    )
    failed = send(Channel("a", Service(ValueError(f"json://{SECRET}"))), Message("", ""))
    assert failed == "Apprise failed with ValueError"
