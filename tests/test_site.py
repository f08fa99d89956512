"""The documentation as a site: every page has its place, every link leads somewhere, nothing comes from elsewhere."""

import os
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from tests.waiting import HANG_S

pytestmark = pytest.mark.compiled_only  # no kernel runs here

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    path.relative_to(ROOT)
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "captures").rglob("README.md"))
)
FORM = {"h1", "h2", "h3", "h4", "li", "ol", "pre", "table", "td", "th", "ul"}
LOADS = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}


class Reader(HTMLParser):
    """Counts what stands in the article of a page, and lists what the page loads."""

    def __init__(self, html):
        super().__init__()
        self.form, self.loaded, self._in_article = Counter(), [], False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self._in_article |= tag == "article"
        if self._in_article and tag in FORM:
            self.form[tag] += 1
        if target := dict(attrs).get(LOADS.get(tag)):
            self.loaded.append(target)

    def handle_endtag(self, tag):
        self._in_article &= tag != "article"


def build(folder, config=ROOT / "mkdocs.yml"):
    """Build the site as `make site` does; not quietly, for what is not said is not counted either."""
    argv = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", config, "-d", folder]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=HANG_S)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Return the folder of the site; a page without a place and a link that leads nowhere fail the build."""
    folder = tmp_path_factory.mktemp("site")
    done = build(folder)
    assert done.returncode == 0, done.stderr
    return folder


def place(page):
    """Return where the site has a page."""
    return page.with_name("index.html") if page.name == "README.md" else page.with_suffix(".html")


def test_every_page_is_in_the_site_and_looks_as_it_does_in_the_repository(site):
    """As many headings, lists, tables and blocks: Markdown is read in two dialects here."""
    markdown = MarkdownIt("commonmark").enable("table")
    assert len(PAGES) > 80
    for page in PAGES:
        in_repository = Reader(f"<article>{markdown.render((ROOT / page).read_text())}</article>").form
        assert (page, Reader((site / place(page)).read_text()).form) == (page, in_repository)


def test_nothing_of_the_site_comes_from_elsewhere(site):
    for page in site.rglob("*.html"):
        loaded = Reader(page.read_text()).loaded
        assert loaded
        assert [target for target in loaded if re.match(r"(?:\w+:)?//", target)] == []
    styles = [path.read_text() for path in site.rglob("*.css")]
    assert styles
    assert [url for text in styles for url in re.findall(r"url\([\"']?(\w+://[^)]*)", text)] == []


def test_captures_logs_and_scripts_are_no_part_of_the_site(site):
    kinds = {path.suffix for path in (site / "captures").rglob("*") if path.is_file()}
    assert kinds == {".html"}
    assert [path for path in (site / "docs").rglob("*") if path.suffix in {".py", ".pyc", ".1"}] == []


@pytest.mark.parametrize(
    ("page", "complaint"),
    [
        ("[x](nowhere.md)", "'nowhere.md', but the target is not found"),
        ("[x](b.md#nowhere)", "does not contain an anchor '#nowhere'"),
        ("x", 'not included in the "nav"'),
    ],
)
def test_the_build_sees_links_that_lead_nowhere_and_pages_without_a_place(tmp_path, page, complaint):
    """With the configuration of the site, so that the tests above see what they are meant to see."""
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "a.md").write_text(page)
    (pages / "b.md").write_text("# B")
    (pages / ".nav.yml").write_text("nav: [b.md]" if page == "x" else "nav: [a.md, b.md]")
    config = tmp_path / "mkdocs.yml"
    config.write_text(f"INHERIT: {ROOT / 'mkdocs.yml'}\ndocs_dir: {pages}\n")
    done = build(tmp_path / "site", config)
    assert done.returncode == 1
    assert complaint in done.stderr


def test_the_readme_links_every_page_of_the_documentation():
    """But for the single rules, which the page of rules lists."""
    linked = set(re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", (ROOT / "README.md").read_text()))
    wanted = {str(page) for page in PAGES if not re.search(r"/PD\d+|^captures/.+/|^README", str(page))}
    assert sorted(wanted - linked) == []
