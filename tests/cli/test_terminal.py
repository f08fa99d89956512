"""Colours and widths: as the terminal, the environment or the operator says."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest

from pcapdiag.cli.output import fit, fit_page
from tests.conftest import ROOT
from tests.nightly.scan import places
from tests.waiting import HANG_S

ALSO_TESTS = ("output",)

RACE = ROOT / "captures" / "idle_close_race_ipv6" / "proxy.pcap"
COLOUR = "\x1b[1;31m"


def on_terminal(*arguments, columns=80, **changes):
    """Return what a command writes on a terminal of so many columns."""
    env = {k: v for k, v in os.environ.items() if k not in {"NO_COLOR", "FORCE_COLOR", "COLUMNS"}}
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "pcapdiag", *map(str, arguments)],
        stdout=side,
        stderr=side,
        env=env | {"PYTHONPATH": str(ROOT), "TERM": "xterm"} | changes,
    )
    os.close(side)
    output = b""
    while True:
        try:
            output += os.read(main, 65536)
        except OSError:  # the other end is closed
            break
    os.close(main)
    assert process.wait(HANG_S) in {0, 1}
    return output.decode().replace("\r\n", "\n")


def widest(text):
    return max(len(re.sub(r"\x1b\[[\d;]*m", "", line)) for line in text.splitlines())


@pytest.mark.parametrize(
    ("options", "changes", "is_coloured"),
    [
        ([], {}, True),
        ([], {"NO_COLOR": "1"}, False),
        ([], {"TERM": "dumb"}, False),
        (["--color", "never"], {"FORCE_COLOR": "1"}, False),
        (["--color", "always"], {"NO_COLOR": "1"}, True),
    ],
)
def test_on_a_terminal_there_are_colours_unless_somebody_says_otherwise(options, changes, is_coloured):
    assert (COLOUR in on_terminal("analyze", RACE, *options, **changes)) == is_coloured


@pytest.mark.parametrize(
    ("options", "changes", "is_coloured"),
    [
        ([], {}, False),
        ([], {"FORCE_COLOR": "1"}, True),
        ([], {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        (["--color", "always"], {}, True),
        ([], {"PCAPDIAG_COLOR": "always"}, True),
        (["--color", "never"], {"FORCE_COLOR": "1"}, False),
    ],
)
@pytest.mark.parametrize("command", [["analyze", RACE], ["compare", RACE, RACE], ["whatif", RACE]], ids=lambda c: c[0])
def test_in_a_pipe_there_are_none_unless_somebody_says_so(invoke, command, options, changes, is_coloured):
    done = invoke(*command, *options, env={"NO_COLOR": None} | changes)
    assert ("\x1b[" in done.stdout) == is_coloured


def test_a_file_has_colours_only_if_they_are_asked_for_there(invoke, tmp_path):
    invoke("analyze", RACE, "-o", tmp_path / "a.txt", env={"FORCE_COLOR": "1", "NO_COLOR": None})
    assert "\x1b" not in (tmp_path / "a.txt").read_text()
    invoke("analyze", RACE, "-o", tmp_path / "b.txt", "--color", "always")
    assert COLOUR in (tmp_path / "b.txt").read_text()


def test_a_colour_that_is_none_is_refused(invoke):
    done = invoke("analyze", RACE, "--color", "alway")
    assert done.returncode == 2
    assert "did you mean always?" in done.stderr


@pytest.mark.parametrize("command", [["analyze", RACE, "-q", "-v"], ["rule", "PD101"], ["rule"], ["rule", "PD403"]])
def test_text_is_as_wide_as_the_terminal(command):
    narrow, wide = (on_terminal(*command, columns=columns) for columns in (70, 130))
    assert widest(narrow) <= 70 < widest(wide) <= 130


def test_columns_say_how_wide_where_there_is_no_terminal_and_width_outranks_them(invoke):
    assert 100 < widest(invoke("analyze", RACE, env={"COLUMNS": "120"}).stdout) <= 120
    assert widest(invoke("rule", "PD101", env={"COLUMNS": "66"}).stdout) <= 66
    assert widest(invoke("analyze", RACE, "--width", "80", env={"COLUMNS": "120"}).stdout) <= 80
    without = invoke("analyze", RACE).stdout
    assert widest(without) <= 100
    assert invoke("analyze", RACE, env={"COLUMNS": "much"}).stdout == without


def test_history_breaks_its_lines_between_words(invoke, tmp_path):
    places.capture(tmp_path / "captures" / "proxy.pcap", races=2)
    store = ("--store", tmp_path / "store.db")
    assert invoke("scan", tmp_path / "captures", "--no-exchanges", "--jobs", "1", *store).returncode == 1
    whole, narrow = (invoke("history", *store, env={"COLUMNS": columns}).stdout for columns in (None, "60"))
    assert widest(narrow) <= 60 < widest(whole)
    assert narrow.split() == whole.split()


def test_a_page_keeps_its_titles_lists_and_words():
    title = "Title that is long\n------------------\none two three four\nfive six\n\n"
    page = f"{title}- an entry of a list\n  goes on here, too\n\nshort"
    assert fit_page(page, None) == page
    assert fit_page(page, 18) == f"{title}- an entry of a\n  list\n  goes on here,\n  too\n\nshort"
    assert fit_page(page, 12).startswith("Title that is long\n------------------\none two\nthree four\nfive six\n")
    assert fit_page(page, 80) == page
    assert fit("a-b-c-d-e " + "x" * 12, 10, hang=2) == "a-b-c-d-e\n  xxxxxxxxxxxx"
