"""The static site: pages that last, complete or as they were, and nothing outside of its folder."""

import dataclasses
import os
import re
import shutil
import stat
import subprocess
import sys
import time
from html.parser import HTMLParser

import pytest

from pcapdiag.base.errors import UsageError
from pcapdiag.base.findings import Severity
from pcapdiag.nightly.site.data import gather
from pcapdiag.nightly.site.drawings import draw_spark
from pcapdiag.nightly.site.pages import Pages
from pcapdiag.nightly.site.write import write_site
from pcapdiag.nightly.store.model import FindingState
from pcapdiag.nightly.store.prune import prune
from pcapdiag.nightly.store.store import Store
from tests.conftest import ROOT
from tests.nightly.site import nights

ALSO_TESTS = ("data", "drawings", "pages")

pytestmark = pytest.mark.compiled_only


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return the path of a store of four nights."""
    folder = tmp_path_factory.mktemp("nights")
    return nights.make_store(folder / "captures", folder / "store.db")


@pytest.fixture
def opened(made, tmp_path):
    """Yield a copy of the store, open."""
    for file in made.parent.glob("store.db*"):
        shutil.copy(file, tmp_path / file.name)
    with Store(str(tmp_path / "store.db")) as store:
        yield store


class _Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.links = []
        self.ids = set()

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if "id" in given:
            self.ids.add(given["id"])
        for name in ("href", "src", "action", "data", "poster", "srcset"):
            if name in given:
                self.links.append((tag, given[name]))


def read(path):
    parser = _Links()
    parser.feed(path.read_text(encoding="utf-8"))
    return parser


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_there_is_a_page_per_night_finding_and_incident(opened, tmp_path):
    done = write_site(opened, tmp_path / "site")
    site = tmp_path / "site"
    assert sorted(p.name for p in (site / "nights").iterdir()) == [f"{day}.html" for day in nights.DAYS]
    assert len(list((site / "findings").iterdir())) >= 1
    assert len(list((site / "incidents").iterdir())) == 3
    assert (done.unchanged, done.removed, done.without_report) == (0, 0, 0)
    assert done.written == len(contents(site))


def test_every_link_leads_to_a_page_of_the_site_and_to_a_place_on_it(opened, tmp_path):
    site = tmp_path / "site"
    write_site(opened, site)
    pages = {page.resolve(): read(page) for page in site.rglob("*.html")}
    reached = set()
    for page, parsed in pages.items():
        for tag, link in parsed.links:
            if link == "data:,":
                continue
            assert tag == "a", (page, tag, link)
            file, _, place = link.partition("#")
            target = (page.parent / file).resolve() if file else page
            assert target in pages, (page, link)
            assert not place or place in pages[target].ids, (page, link)
            reached.add(target)
    assert reached == set(pages), "every page can be reached"


def test_the_index_says_what_happened_on_the_last_night(opened, tmp_path):
    write_site(opened, tmp_path / "site")
    index = (tmp_path / "site" / "index.html").read_text()
    title = re.search(r'<h1 id="verdict-title">(.*)</h1>', index)[1]
    assert re.sub("<[^>]*>", "", title) == "2023-11-18: 1 ongoing; 5 of 22 requests failed (22.7 %)"
    assert 'aria-label="2023-11-14: nothing found"' in index
    assert 'aria-label="2023-11-15: 2 requests failed"' in index
    assert "2023-11-17" not in index
    assert "broken.pcap: is not a capture" in index


def test_one_cause_at_several_upstreams_is_one_row_with_all_of_them(opened):
    data = gather(opened)
    finding = next(f for f in data.findings if f.code == "PD101")
    twin = dataclasses.replace(finding, identifier="twin", subject="10.9.0.77:80", state=FindingState.WORSE)
    told = dataclasses.replace(finding, identifier="told", code="PD901", severity=Severity.INFO)
    words = Pages(dataclasses.replace(data, findings=[finding, twin, told])).index()
    (row,) = words["standing"]
    assert row["state"] == "worse", "the worst of them"
    assert [subject for _, subject in row["places"]] == [finding.subject, "10.9.0.77:80"]
    assert [r["code"] for r in words["told"]] == ["PD901"]


def test_counts_of_the_last_night_agree_in_banner_table_and_history(opened, tmp_path, cli):
    write_site(opened, tmp_path / "site")
    text = re.sub("<[^>]*>", " ", (tmp_path / "site" / "index.html").read_text())
    assert "1 ongoing; 5 of 22 requests failed (22.7 %)" in text
    assert re.search(r"PD101 idle-close-race[^%]*? 5 of 22\s+22\.7 %", text), "the table"
    assert "2023-11-18: 5 of 22 requests failed (22.7 %)" in text, "the chart"
    said = cli("history", "--store", tmp_path / "store.db").stdout.splitlines()
    assert said[1] == "2023-11-18: 5 of 22 requests failed (22.7 %)"
    names = re.split(r" {2,}", said[3])
    row = dict(zip(names, re.split(r" {2,}", said[4]), strict=True))
    assert (row["state"], row["failed"], row["failed in all"]) == ("ongoing", "5", "8")


def test_the_rate_of_losses_and_the_race_of_each_upstream_are_trends(opened):
    (upstream,) = Pages(gather(opened)).index()["upstreams"]
    assert "rates of lost requests" in upstream["spark"].alt
    assert "5 of 22 requests failed (22.7 %)" in upstream["spark"].alt
    assert "the race is expected to take per day" in upstream["risks"].alt


def test_a_night_of_which_a_rate_is_not_known_has_no_bar():
    """A risk that could not be told is not one of none, which has a stub."""
    days = ["2026-11-20", "2026-11-21", "2026-11-22"]
    drawn = draw_spark(days, {days[0]: 0.0, days[1]: 2.5}, "losses per day", {days[0]: "none", days[1]: "2.5 per day"})
    assert [(bar.label, bar.kind) for bar in drawn.bars] == [
        (f"{days[0]}: none", "none"),
        (f"{days[1]}: 2.5 per day", "some"),
    ]
    assert drawn.alt.endswith(f"most on {days[1]} (2.5 per day), {days[2]}, the last: not known")
    assert draw_spark(days, {}, "losses per day", {}).alt == "losses per day: not known"
    assert [bar.label for bar in draw_spark(days, {days[2]: 1}, "times").bars] == [
        f"{day}: {n} times" for day, n in zip(days, (0, 0, 1), strict=True)
    ]


def test_a_night_says_how_a_finding_stood_then(opened, tmp_path):
    write_site(opened, tmp_path / "site")

    def states(day):
        page = (tmp_path / "site" / "nights" / f"{day}.html").read_text()
        return re.findall(r'<h3><span class="badge (\w+)"', page)

    assert [states(day) for day in nights.DAYS] == [[], ["new"], ["ongoing"], ["ongoing"]]


def test_the_same_store_makes_the_same_bytes_and_a_second_run_touches_nothing(opened, tmp_path):
    site, twin = tmp_path / "site", tmp_path / "twin"
    write_site(opened, site)
    write_site(opened, twin)
    assert contents(site) == contents(twin)
    before = {p: p.stat().st_mtime_ns for p in site.rglob("*.html")}
    done = write_site(opened, site)
    assert (done.written, done.removed) == (0, 0)
    assert {p: p.stat().st_mtime_ns for p in site.rglob("*.html")} == before


def test_pages_keep_their_names_when_nights_come_and_go(tmp_path):
    folder, site = tmp_path / "captures", tmp_path / "site"
    nights.write_nights(folder, races=(0, 2), days=(0, 1))
    with Store(str(tmp_path / "store.db")) as store:
        nights.scan(folder, store)
        write_site(store, site)
        first = set(contents(site))
        nights.write_nights(folder)
        nights.scan(folder, store)
        write_site(store, site)
        assert first < set(contents(site))
        prune(store, keep_days=1)
        done = write_site(store, site)
    assert done.removed == 5
    assert [p.name for p in (site / "nights").iterdir()] == ["2023-11-18.html"]
    assert len(list((site / "incidents").iterdir())) == 1
    assert len(list((site / "findings").iterdir())) == 1


WRITE = """
import sys
from pcapdiag.nightly.site.write import write_site
from pcapdiag.nightly.store.store import Store
with Store(sys.argv[1]) as store:
    print("go", flush=True)
    write_site(store, sys.argv[2])
"""


@pytest.mark.parametrize("after_ms", [5, 15, 40])
def test_a_writer_that_is_killed_leaves_whole_pages_and_the_next_one_finishes(opened, tmp_path, after_ms):
    site = tmp_path / "site"
    command = [sys.executable, "-c", WRITE, str(opened.database.path), str(site)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)}) as writer:
        assert writer.stdout.readline() == b"go\n"
        time.sleep(after_ms / 1000)
        writer.kill()
    assert all(text.endswith(b"</html>\n") for name, text in contents(site).items() if name.endswith(".html"))
    write_site(opened, site)
    write_site(opened, tmp_path / "twin")
    assert contents(site) == contents(tmp_path / "twin")


def test_what_the_site_did_not_write_stays(opened, tmp_path):
    site = tmp_path / "site"
    write_site(opened, site)
    theirs = [site / "nights" / "2001-01-01.html", site / "nights" / "notes.txt", site / "logo.png"]
    for file in theirs:
        file.write_text("<title>mine</title>")
    prune(opened, keep_days=1)
    write_site(opened, site)
    assert all(file.read_text() == "<title>mine</title>" for file in theirs)


def test_a_page_of_somebody_else_is_not_overwritten(opened, tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    (site / "index.html").write_text("<title>mine</title>")
    with pytest.raises(UsageError, match=r"index\.html is not pcapdiag's own"):
        write_site(opened, site)
    assert (site / "index.html").read_text() == "<title>mine</title>"


def test_no_link_leads_out_of_the_folder(opened, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    site = tmp_path / "site"
    site.mkdir()
    (site / "nights").symlink_to(elsewhere)
    with pytest.raises(UsageError, match="is a link or no folder"):
        write_site(opened, site)
    assert list(elsewhere.iterdir()) == []
    (site / "nights").unlink()
    (site / "index.html").symlink_to(elsewhere / "index.html")
    with pytest.raises(UsageError, match="is not pcapdiag's own"):
        write_site(opened, site)
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize(
    ("mode", "folder", "file"), [(0o700, 0o700, 0o600), (0o755, 0o755, 0o644), (0o750, 0o750, 0o640)]
)
def test_who_may_read_the_folder_may_read_its_pages(opened, tmp_path, mode, folder, file):
    site = tmp_path / "site"
    site.mkdir()
    site.chmod(mode)
    write_site(opened, site)
    modes = {(stat.S_IMODE(p.stat().st_mode), p.is_dir()) for p in site.rglob("*")}
    assert modes == {(folder, True), (file, False)}


def test_a_folder_that_it_makes_is_for_its_owner_alone(opened, tmp_path):
    old = os.umask(0)
    try:
        write_site(opened, tmp_path / "site")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "site").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "site" / "index.html").stat().st_mode) == 0o600


def test_captures_that_were_read_without_html_are_counted_and_not_linked(tmp_path):
    made = nights.make_store(tmp_path / "captures", tmp_path / "store.db", html=False)
    with Store(str(made)) as store:
        done = write_site(store, tmp_path / "site")
    assert done.without_report == 3
    assert list((tmp_path / "site" / "incidents").iterdir()) == []
    assert all("incidents/" not in text.decode() for text in contents(tmp_path / "site").values())


def test_no_name_of_a_page_comes_from_text_of_a_capture(opened, tmp_path):
    nights.attack(opened.database.path)
    write_site(opened, tmp_path / "site")
    names = {str(p.relative_to(tmp_path / "site")) for p in (tmp_path / "site").rglob("*") if p.is_file()}
    form = re.compile(r"index\.html|nights/[\d-]{10}\.html|findings/PD-[0-9a-f]{16}\.html|incidents/[0-9a-f]{32}\.html")
    assert all(form.fullmatch(name) for name in names)
    assert len(names) == 1 + 4 + 1 + 3


def test_an_empty_store_has_an_index_that_says_so(tmp_path):
    with Store(str(tmp_path / "store.db")) as store:
        done = write_site(store, tmp_path / "site")
    assert done.written == 1
    assert "No night has been scanned yet" in (tmp_path / "site" / "index.html").read_text()
