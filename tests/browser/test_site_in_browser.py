"""The site of a scan in Chromium, from the disk: quiet, fits, accessible, no request leaves it, under attack too."""

import re
from contextlib import contextmanager
from importlib.resources import files

import pytest

from pcapdiag.nightly.site.write import write_site
from pcapdiag.nightly.store.store import Store
from tests.browser.conftest import context_of
from tests.browser.test_report_in_browser import AXE, MODES
from tests.nightly.site import nights

pytestmark = pytest.mark.compiled_only


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Return the path of a store of four nights."""
    folder = tmp_path_factory.mktemp("store")
    return nights.make_store(folder / "captures", folder / "store.db")


@pytest.fixture(scope="module")
def site(store, tmp_path_factory):
    """Return the folder of its site."""
    folder = tmp_path_factory.mktemp("site")
    with Store(str(store)) as opened:
        write_site(opened, folder)
    return folder


@contextmanager
def opened(browser, folder, **options):
    """Open the index; in the end there was no word on the console and no request but for pages of the site."""
    with context_of(browser, **options) as context:
        page = context.new_page()
        said, asked = [], []
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: asked.append(request.url))
        page.goto((folder / "index.html").as_uri())
        yield page
        assert said == []
        assert [url for url in asked if url != "data:,"] != []
        assert all(url == "data:," or url.startswith(f"{folder.as_uri()}/") for url in asked)


def one_of_each(folder):
    """Return the index, a night, a finding and an incident."""
    return [folder / "index.html", *(max((folder / n).iterdir()) for n in ("nights", "findings", "incidents"))]


@pytest.mark.parametrize("mode", MODES)
def test_pages_are_quiet_fit_and_are_accessible(browser, site, mode):
    axe = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
    with opened(browser, site, **MODES[mode]) as page:
        for file in one_of_each(site):
            page.goto(file.as_uri())
            if mode == "print":
                page.emulate_media(media="print")
            assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), file
            page.evaluate(axe)
            assert page.evaluate(AXE) == [], file


def test_one_comes_from_the_calendar_to_the_proof_and_back(browser, site):
    with opened(browser, site, java_script_enabled=False) as page:
        page.get_by_role("link", name="2023-11-18: 5 requests failed").click()
        assert page.url.endswith("/nights/2023-11-18.html")
        page.get_by_role("link", name=re.compile("PD1.. ")).first.click()
        assert re.search(r"/findings/PD1\d\d-[0-9a-f]{16}\.html$", page.url)
        page.get_by_role("link", name="day4/proxy.pcap").first.click()
        assert re.search(r"/incidents/[0-9a-f]{32}\.html#PD1\d\d$", page.url)
        assert page.locator("article:target .ladder svg").first.is_visible()
        page.get_by_role("link", name="All nights").click()
        assert page.url.endswith("/index.html")


def test_a_sparkline_says_in_words_what_it_draws(browser, site):
    with opened(browser, site) as page:
        words = page.get_by_role("img").first.get_attribute("aria-label")
        assert words == (
            "rates of failed requests in 4 nights: first on 2023-11-15, most on 2023-11-18"
            " (5 of 22 requests failed (22.7 %)), 2023-11-18, the last: 5 of 22 requests failed (22.7 %)"
        )


def test_hostile_text_is_text(browser, store, tmp_path):
    for file in store.parent.glob("store.db*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with Store(str(tmp_path / "store.db")) as attacked:
        nights.attack(attacked.database.path)
        write_site(attacked, tmp_path / "site")
    for mode in ("light", "narrow"):
        with opened(browser, tmp_path / "site", **MODES[mode]) as page:
            for file in one_of_each(tmp_path / "site")[:3]:
                page.goto(file.as_uri())
                assert page.evaluate("window.owned") is None
                assert page.locator("script, img, iframe, object, embed, form, link:not([rel=icon])").count() == 0
                assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
                assert "<script>window.owned=1</script>" in page.locator("main").inner_text()
