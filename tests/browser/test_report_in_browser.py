"""The HTML report in Chromium: by day, by night, on a telephone, on paper, without a script, and under attack."""

import dataclasses
import re
import zlib
from contextlib import contextmanager
from importlib.resources import files

import pytest

import pcapdiag
from pcapdiag.report.render.html import render_html
from tests.browser.conftest import context_of
from tests.conftest import LAB, ROOT
from tests.report import builders

pytestmark = pytest.mark.compiled_only

COMMITTED = ("idle_close_race_65s", "connect_refused_and_timeout", "worker_exit", "healthy_keepalive")
FROM_LAB = (
    "a_big",
    "h_connect_fail",
    "l_tls_race",
    *(pytest.param(name, marks=pytest.mark.long) for name in ("a_idle_race", "c2_middlebox_drop", "d1_worker_exit")),
    pytest.param("e_upstream_reload", marks=pytest.mark.long),
)
MODES = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "narrow": {"color_scheme": "light", "viewport": {"width": 375, "height": 700}},
    "print": {"color_scheme": "dark", "viewport": {"width": 700, "height": 900}},
}
# WCAG 2.2 A and AA, and what axe holds for good practice.
AXE = (
    "async () => (await axe.run()).violations.map(v => v.id + ': ' + v.nodes.map(n => n.html).slice(0, 3).join(' | '))"
)


def analyze(folder):
    """Analyse an incident with everything that lies beside its capture."""
    logs = folder / "proxy" if (folder / "proxy").is_dir() else folder
    given = {}
    for name, file in (("error_logs", "error.log"), ("access_logs", "access.log")):
        if (logs / file).is_file():
            given[name] = [logs / file]
    if (logs / "nginx.conf").is_file():
        given["proxy_conf"] = logs / "nginx.conf"
    far = sorted(folder.glob("up[A-C].pcap") if folder.is_relative_to(LAB) else folder.glob("upstream_*.pcap"))
    return pcapdiag.analyze(folder / "proxy.pcap", upstream_captures=far, **given)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Return a function that gives the page of an incident as a file, made once."""
    folder = tmp_path_factory.mktemp("pages")

    def page(incident):
        file = folder / f"{incident.name}.html"
        if not file.exists():
            file.write_text(analyze(incident).to_html(), encoding="utf-8")
        return file

    return page


@contextmanager
def opened(browser, file, **options):
    """Open a file; in the end there was no word on the console, no dialog, and no request but the one for the file."""
    with context_of(browser, **options) as context:
        page = context.new_page()
        said, asked = [], []
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri())
        yield page
        assert said == []
        assert [url for url in asked if url != "data:,"] == [file.as_uri()]


def check(browser, file, mode):
    axe = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
    with opened(browser, file, **MODES[mode]) as page:
        if mode == "print":
            page.emulate_media(media="print")
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        page.evaluate(axe)
        assert page.evaluate(AXE) == []


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", COMMITTED)
def test_a_report_is_quiet_fits_and_is_accessible(browser, pages, name, mode):
    check(browser, pages(ROOT / "captures" / name), mode)


@pytest.mark.lab
@pytest.mark.parametrize("name", FROM_LAB)
def test_the_report_of_a_lab_incident_is_quiet_fits_and_is_accessible(browser, pages, lab, name):
    for mode in MODES:
        check(browser, pages(lab / name), mode)


@pytest.fixture(scope="module")
def race(pages):
    return pages(ROOT / "captures" / "idle_close_race_65s")


def test_everything_can_be_read_without_a_script(browser, race):
    with opened(browser, race, java_script_enabled=False) as page:
        assert page.locator("h1").is_visible()
        for name in ("timeline", "idle-gaps", "closings", "cascade"):
            assert page.locator(f"#{name} .wide svg").is_visible()
        assert page.locator(".ladder svg").first.is_visible()
        assert page.locator(".tools").first.is_hidden()
        row = page.locator("#PD101 table.events tbody", has=page.locator("pre")).first
        row.locator("summary").click()
        assert row.locator("pre").is_visible()
        assert page.locator(".find, .copies").count() == 0
        page.locator("#idle-gaps details summary").click()
        assert page.locator("#idle-gaps table").is_visible()


def test_a_telephone_gets_the_narrow_drawing_and_a_page_the_wide_one(browser, race):
    for width, shown, hidden in ((375, "narrow", "wide"), (1000, "wide", "narrow")):
        with opened(browser, race, viewport={"width": width, "height": 700}) as page:
            assert page.locator(f"#timeline .{shown} svg").is_visible()
            assert page.locator(f"#timeline .{hidden} svg").is_hidden()


def test_zooming_puts_new_ticks_on_the_axis_and_reset_brings_the_old_ones_back(browser, race):
    with opened(browser, race) as page:
        figure = page.locator("#timeline figure")
        ticks = figure.locator(".wide .ticks text")
        axis = figure.locator(".wide .role-axis").filter(has_text="time (UTC)").last
        assert ticks.count() == 0
        for _ in range(3):
            figure.get_by_role("button", name="Zoom in").click()
        assert ticks.count() >= 2
        assert axis.is_hidden()
        figure.get_by_role("button", name="Reset").click()
        assert ticks.count() == 0
        assert axis.is_visible()


def test_dragging_over_a_part_of_a_chart_zooms_into_it(browser, race):
    with opened(browser, race) as page:
        plot = page.locator("#timeline .plot")
        plot.scroll_into_view_if_needed()
        box = plot.bounding_box()
        page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 60)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + 80, steps=3)
        page.mouse.up()
        assert page.locator("#timeline .wide .ticks text").count() >= 2
        plot.dblclick(position={"x": box["width"] / 2, "y": 60})
        assert page.locator("#timeline .wide .ticks text").count() == 0


def test_pointing_at_a_mark_says_which_request_it_is(browser, race):
    with opened(browser, race) as page:
        mark = page.locator("#idle-gaps .wide .mark-symbol.role-mark path").last
        mark.scroll_into_view_if_needed()
        mark.hover(force=True)
        tip = page.locator("#idle-gaps .tip")
        assert tip.is_visible()
        assert "lost (PD101 idle-close-race)" in tip.inner_text()
        assert "frame " in tip.inner_text()


def test_the_keyboard_reaches_every_mark(browser, race):
    with opened(browser, race) as page:
        page.locator("#timeline .plot").focus()
        seen = set()
        for _ in range(8):
            page.keyboard.press("ArrowRight")
            seen.add(page.locator("#timeline .tip").inner_text())
        assert len(seen) == 8
        page.keyboard.press("+")
        assert page.locator("#timeline .wide .ticks text").count() >= 2
        page.keyboard.press("0")
        page.keyboard.press("Escape")
        assert page.locator("#timeline .tip").is_hidden()


def test_a_mark_leads_to_its_row_which_opens_with_its_ladder(browser, race):
    with opened(browser, race) as page:
        mark = page.locator("#idle-gaps .wide .mark-symbol.role-mark path").last
        mark.scroll_into_view_if_needed()
        mark.click(force=True)
        name = page.evaluate("location.hash")
        assert re.fullmatch(r"#PD101-frame-\d+", name)
        row = page.locator(f'tbody[id="{name[1:]}"]')
        assert row.locator(".more").is_visible()
        assert page.evaluate("document.activeElement.closest('tbody').id") == name[1:]
        row.locator("tr").first.click()
        assert row.locator(".more").is_hidden()


def test_the_keyboard_goes_from_a_mark_to_its_row_and_closes_it_again(browser, race):
    with opened(browser, race) as page:
        page.locator("#idle-gaps .plot").focus()
        while "lost (" not in page.locator("#idle-gaps .tip").inner_text():
            page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        row = page.locator("tbody.here")
        assert row.locator(".more").is_visible()
        page.keyboard.press("Enter")
        assert row.locator(".more").is_hidden()


def test_an_address_with_an_anchor_opens_that_row(browser, race):
    with opened(browser, race) as page:
        name = page.locator("#PD101 table.events tbody").last.get_attribute("id")
        page.evaluate("name => { location.hash = name }", name)
        page.locator(f'tbody[id="{name}"].here').wait_for()
        assert page.locator(f'tbody[id="{name}"] pre').is_visible()


def test_rows_are_sorted_by_their_numbers_and_found_by_their_words(browser, race):
    with opened(browser, race) as page:
        cells = page.locator("#PD101 table.events tbody > tr:first-child")

        def gaps():
            return [
                float(text.split()[0])
                for text in page.locator("#PD101 tbody > tr:first-child > td:nth-child(3)").all_inner_texts()
            ]

        head = page.locator("#PD101 th", has_text="idle gap")
        head.get_by_role("button").click()
        assert gaps() == sorted(gaps())
        assert head.get_attribute("aria-sort") == "ascending"
        head.get_by_role("button").click()
        assert gaps() == sorted(gaps(), reverse=True)
        find = page.locator("#PD101 input")
        find.fill("post 10.1.1.2")
        shown = page.locator("#PD101 tbody:not([hidden]) > tr:first-child").all_inner_texts()
        assert 0 < len(shown) < cells.count()
        assert all("POST" in text and "10.1.1.2:80" in text for text in shown)
        assert page.locator("#PD101 output").first.inner_text() == f"{len(shown)} of {cells.count()}"
        hidden = next(i for i in page.locator("#PD101 tbody[hidden]").evaluate_all("all => all.map(e => e.id)"))
        page.evaluate("name => { location.hash = name }", hidden)
        page.locator(f'tbody[id="{hidden}"].here').wait_for()
        assert find.input_value() == "", "who is led to a row sees it"


def test_filter_patch_and_command_can_be_copied(browser, race):
    with context_of(browser, permissions=["clipboard-read", "clipboard-write"]) as context:
        page = context.new_page()
        page.goto(race.as_uri())
        for place, wanted in (
            ("#remedy figure.diff", "-keepalive_timeout 300s;\n+keepalive_timeout 60s;"),
            ("#remedy article", "pcapdiag rule PD101"),
            ("#PD101 .ladder", "frame.number in {"),
        ):
            page.locator(place).first.locator("button.copies").first.click()
            assert wanted in page.evaluate("navigator.clipboard.readText()") or place == "#remedy article"
        command = page.locator("#PD101 .ladder code").last
        assert command.inner_text().startswith("tshark -r ")


def test_no_printed_page_is_empty_and_the_remedy_comes_before_the_charts(browser, pages):
    for name in COMMITTED:
        with opened(browser, pages(ROOT / "captures" / name)) as page:
            sizes = printed(page.pdf(format="A4"))
            assert len(sizes) >= 2
            assert min(sizes) > 200, f"{name}: bytes drawn on each page {sizes}"
            parts = page.locator("main > section").evaluate_all("all => all.map(e => e.id)")
            assert "remedy" not in parts or parts.index("remedy") == 2


def printed(pdf):
    """Return how much is drawn on each page of what Chromium printed: bytes of its drawing."""
    objects = dict(re.findall(rb"\n(\d+) 0 obj\n(.*?)\nendobj", pdf, re.DOTALL))
    sizes = []
    for text in objects.values():
        if re.search(rb"/Type /Page\b", text):
            content = objects[re.search(rb"/Contents (\d+) 0 R", text)[1]]
            data = content.partition(b"stream\n")[2].rpartition(b"endstream")[0]
            sizes.append(len(zlib.decompress(data)))
    return sizes


def test_the_skip_link_is_the_first_thing_that_the_keyboard_meets(browser, race):
    with opened(browser, race) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        assert page.evaluate("location.hash") == "#main"


ATTACK = (
    "</style></script><script>window.owned=1</script><img src=x onerror=window.owned=1><svg onload=window.owned=1>"
    '" onmouseover="window.owned=1" \'{{7*7}}{% raw %}\x1b[31m\x00\x9b\u202egpj\u2066\u200b\udcff'
    "javascript:alert(1)//http://evil.example/\r\n" + "A" * 3000
)


def attacked(value):
    """Return the value with every text in it, of whatever kind, followed by the attack."""
    if isinstance(value, str):
        return value + ATTACK
    if isinstance(value, tuple):
        return tuple(attacked(item) for item in value)
    if dataclasses.is_dataclass(value):
        # Codes and severities are this program's own words; the rest may come from the input.
        names = [f.name for f in dataclasses.fields(value) if f.name not in {"code", "name", "flags", "source", "end"}]
        return dataclasses.replace(value, **{name: attacked(getattr(value, name)) for name in names})
    return value


def test_hostile_text_is_text(browser, tmp_path):
    result = analyze(ROOT / "captures" / "idle_close_race_65s")
    report = dataclasses.replace(
        result.report,
        **{
            name: attacked(getattr(result.report, name))
            for name in ("inputs", "captures", "findings", "verdicts", "log", "notes", "settings")
        },
    )
    file = tmp_path / "attacked.html"
    file.write_text(render_html(report, result.analysis), encoding="utf-8")
    for mode in ("light", "narrow"):
        with opened(browser, file, **MODES[mode]) as page:
            assert page.evaluate("window.owned") is None
            assert page.locator("img, iframe, object, embed, form, link:not([rel=icon])").count() == 0
            assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
            assert "<script>window.owned=1</script>" in page.locator("main").inner_text()


def test_a_report_of_a_bare_capture_is_accessible_too(browser, tmp_path):
    file = tmp_path / "bare.html"
    file.write_text(
        render_html(builders.report(losses=(), n_unanswered=0), builders.analysis(losses=())), encoding="utf-8"
    )
    check(browser, file, "light")
