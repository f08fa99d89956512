"""What is said without a capture fits a page, names no cause, and says what it counts."""

from pathlib import Path

import pytest

from pcapdiag.analysis.inputs import Inputs
from pcapdiag.report.triage.render import render_markdown, render_terminal
from pcapdiag.report.triage.words import headline
from pcapdiag.triage.build import build_triage

CASES = Path(__file__).parents[3] / "captures"
FOLDERS = sorted({path.parent for path in CASES.glob("*/error.log")} | {p.parent for p in CASES.glob("*/nginx.conf")})
MOST_LINES = 40


def triage_of(folder):
    def found(name):
        return (str(folder / name),) if (folder / name).exists() else ()

    logs = {"error_logs": found("error.log"), "access_logs": found("access.log")}
    return build_triage(Inputs(**logs, proxy_conf=next(iter(found("nginx.conf")), "")))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_page_fits_and_claims_nothing(folder):
    triage = triage_of(folder)
    page = render_terminal(triage, width=80)
    lines = page.splitlines()
    assert len(lines) <= MOST_LINES
    assert max(map(len, lines)) <= 80
    whole = render_markdown(triage)
    for text in (page, whole):
        assert "tcpdump -i any" in text
        for claim in ("confirmed", "the cause is", "proved"):
            assert claim not in text
    assert page.startswith(" ".join(headline(triage).split(" ")[:3]))


def test_many_upstreams_with_long_names_fit_the_page(tmp_path):
    tail = ', client: 192.0.2.2, server: a, request: "GET / HTTP/1.1", upstream: "http://{}/", host: "a"'
    messages = [
        "upstream prematurely closed connection while reading response header from upstream",
        "recv() failed (104: Connection reset by peer) while reading response header from upstream",
        "connect() failed (111: Connection refused) while connecting to upstream",
        "upstream timed out (110: Connection timed out) while connecting to upstream",
        "upstream timed out (110: Connection timed out) while reading response header from upstream",
        "no live upstreams while connecting to upstream",
    ]
    (tmp_path / "error.log").write_text(
        "".join(
            f"2026/11/20 {n // 3600:02}:{n // 60 % 60:02}:{n % 60:02} [error] 7#7: *1 {message}"
            f"{tail.format(f'[2001:db8:1111:2222:3333:4444:5555:{n % 40:x}]:8080')}\n"
            for n in range(0, 40000, 200)
            for message in messages
        )
        + "nothing\n" * 9
    )
    page = render_terminal(triage_of(tmp_path), width=80)
    assert len(page.splitlines()) <= MOST_LINES
    assert "more of other kinds" in page
    assert "about every 200 s" in page


LOST = (
    '2026/11/20 23:56:2{} [error] 7#7: *1 {}, client: 192.0.2.2, server: a, request: "GET / HTTP/1.1", upstream:'
    ' "http://10.0.0.1:80/", host: "a"\n'
)
CLOSED = "upstream prematurely closed connection while reading response header from upstream"
REFUSED = "connect() failed (111: Connection refused) while connecting to upstream"


@pytest.mark.parametrize(
    ("messages", "told"),
    [((CLOSED,), ': "'), ((CLOSED, CLOSED), ', all of them "'), ((CLOSED, CLOSED, REFUSED), ', most often "')],
)
def test_most_often_is_said_of_some_and_not_of_all(tmp_path, messages, told):
    (tmp_path / "error.log").write_text("".join(LOST.format(n, message) for n, message in enumerate(messages)))
    said = headline(triage_of(tmp_path))
    assert [mark for mark in (': "', ', all of them "', ', most often "') if mark in said] == [told]


def test_silence_of_a_log_is_not_taken_for_health(tmp_path):
    (tmp_path / "error.log").write_text("2026/11/20 23:56:28 [notice] 1#1: signal process started\n")
    assert "does not mean that none did" in " ".join(headline(triage_of(tmp_path)).split())


def test_markup_in_names_is_shown_as_it_is(tmp_path):
    (tmp_path / "error.log").write_text(
        "2026/11/20 23:56:28 [error] 7#7: *1 no live upstreams while connecting to upstream, client: 1.1.1.1,"
        ' server: a, request: "GET / HTTP/1.1", upstream: "http://<b>[red]\x1b[31m|x/", host: "a"\n'
    )
    triage = triage_of(tmp_path)
    assert "\x1b" not in render_terminal(triage, width=80)
    assert "<b>" not in render_markdown(triage).replace("\\<b>", "").replace("`<b>", "")
