"""What a notebook shows of a result: by IPython's own display, and nothing that a capture could have written."""

from html.parser import HTMLParser

import pytest
from IPython.core.formatters import DisplayFormatter

import pcapdiag
from pcapdiag.report.render.notebook import render
from tests.conftest import ROOT
from tests.report import builders

ALLOWED = {"div", "p", "strong", "table", "thead", "tbody", "tr", "th", "td"}


class Elements(HTMLParser):
    """Collects what a browser would make of a text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.words = [], set(), []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes |= set(attrs)

    def handle_data(self, data):
        self.words.append(data)


def test_a_notebook_shows_the_verdict_and_the_findings():
    result = pcapdiag.analyze(ROOT / "captures" / "idle_close_race_ipv6" / "proxy.pcap")
    data, _ = DisplayFormatter().format(result)
    page = Elements(data["text/html"])
    assert page.words[0] == result.headline
    assert "PD101 idle-close-race" in page.words
    assert page.tags.count("tr") == 1 + 3 + 1 + 3
    assert data["text/plain"] == repr(result)
    assert page.words[-1].startswith("DataFrames: .findings")


@pytest.mark.parametrize("make", [builders.race_report, builders.hostile_report])
def test_nothing_but_plain_elements_is_made(make):
    page = Elements(render(make()))
    assert set(page.tags) <= ALLOWED
    assert page.attributes <= {("style", "text-align: left"), ("style", "text-align: right")}
    assert "".join(page.words).isprintable()


def test_many_findings_are_cut_and_counted():
    findings = [builders.finding(subject=f"10.9.0.{n}:80") for n in range(50)]
    words = Elements(render(builders.report(*findings))).words
    assert "and 30 more findings: the JSON report holds them all." in words
