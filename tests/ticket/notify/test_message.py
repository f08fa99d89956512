"""Messages stay short, and nothing that a capture holds calls people or makes links in a chat."""

from hypothesis import given
from hypothesis import strategies as st

from pcapdiag.ticket.notify.message import Message, News, bounded, compose_news, harmless


@given(st.text(max_size=600))
def test_no_text_calls_people_makes_links_or_leaves_its_line(text):
    shown = harmless(text)
    assert not set(shown) & set("<>@`\n\r\x1b\u202e")
    assert len(shown) <= 240


def test_what_is_read_is_what_was_written():
    assert harmless("PD101 <!channel> @here `x`") == "PD101 \u2039!channel\u203a \uff20here 'x'"


def test_news_are_counted_and_told_one_after_the_other():
    news = [News("PD101 race", "13 requests", "host:/a"), News("PD301 refused", "2 requests", "host:/b")]
    assert compose_news(news, "today") == Message(
        "pcapdiag: 2 new (today)", "NEW: PD101 race\n13 requests\nhost:/a\n\nNEW: PD301 refused\n2 requests\nhost:/b"
    )


def test_of_too_many_paragraphs_the_first_stay_and_the_rest_is_counted():
    text = bounded(["\u00e9" * 300] * 9, "see the site")
    assert text.endswith("\n\nand 7 more: see the site")
    assert len(text.encode()) < 2000


def test_the_first_paragraph_stays_however_long_it_is():
    assert bounded(["a" * 5000], "") == "a" * 5000
