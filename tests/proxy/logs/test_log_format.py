"""Lines taken apart by a format: what backtracking would find first, without it."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pcapdiag.proxy.logs.log_format import KNOWN_FORMATS, compile_format
from pcapdiag.proxy.logs.shapes import MOST_ITEMS
from pcapdiag.proxy.logs.variables import SLOTS

NAMES = (
    *("status", "msec", "upstream_addr", "upstream_status", "upstream_response_time", "remote_addr"),
    *("time_local", "request_uri", "request", "host"),
)
"""Variables of every shape that an entry has a slot for."""

PIECES = (
    *("1", "-", ".", " ", '"', ", ", " : ", "a", ":", "\\", '\\"', "x", "[", "]", "é", "日"),
    *("20/Nov/2026:23:56:28 +0000", "10.0.0.1:80", "502"),
)
TEXTS = ("", " ", "-", '"', '" "', ":", ", ", " : ", "1", ".", " [", "] ", "a", "日")


def backtracking(form):
    """Return the format as one pattern that tries all ways there are."""
    parts = [f"({shape.pattern}){re.escape(text)}" for shape, text in zip(form.shapes, form.texts[1:], strict=True)]
    return re.compile(re.escape(form.texts[0]) + "".join(parts) + r"\s*", re.ASCII)


def raw(form, line):
    """Return what `match` finds, before it is sorted by slots."""
    match = form.pattern.fullmatch(line)
    return list(match.groups()) if match else form._search(line)


@st.composite
def formats(draw):
    n = draw(st.integers(1, 5))
    texts = draw(st.lists(st.sampled_from(TEXTS), min_size=n + 1, max_size=n + 1))
    names = draw(st.lists(st.sampled_from(NAMES), min_size=n, max_size=n))
    escape = draw(st.sampled_from(["", "escape=json ", "escape=none "]))
    return escape + texts[0] + "".join(f"${{{name}}}{text}" for name, text in zip(names, texts[1:], strict=True))


@given(formats(), st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
@example("$remote_addr:$remote_port $status", "::1:80 200")
@example("$host$request_uri", "a/b c")
@example("$request_uri$request $status", "a b 1 2")
def test_what_is_found_is_what_backtracking_would_find(text, line):
    form = compile_format(text)
    match = backtracking(form).fullmatch(line)
    assert raw(form, line) == (list(match.groups()) if match else None)
    assert form._search(line) == raw(form, line)


@given(formats(), st.data())
def test_a_line_that_was_written_by_the_format_is_read(text, data):
    values = {
        "status": "502",
        "msec": "1.5",
        "upstream_addr": "10.0.0.1:80, 10.0.0.2:80 : be",
        "upstream_status": "502, -",
        "upstream_response_time": "0.1, 0.2",
        "remote_addr": "::1",
        "time_local": "20/Nov/2026:23:56:28 +0000",
        "request_uri": data.draw(st.sampled_from(["/", "/a b", "/a:1"])),
        "request": "GET / HTTP/1.1",
        "host": "a.example:80",
    }
    form = compile_format(text)
    line = re.sub(r"^escape=\w+ ", "", text)
    line = re.sub(r"\$\{(\w+)\}", lambda match: values[match[1]], line)
    if backtracking(form).fullmatch(line) is not None:
        assert form.match(line) is not None


@pytest.mark.parametrize(
    ("form", "line"),
    [
        ("$remote_addr" + "".join(f" $http_x{n}" for n in range(6)) + ' "Z"', "192.0.2.2 " + "a " * 150),
        ("".join(f"$v{n}" for n in range(22)) + " Z", 'a "b" ' * 50),
        ("$status$body_bytes_sent$bytes_sent$connection$pid$request_length Z", "1" * 300),
        ("$msec$request_time$tcpinfo_rtt$msec$request_time Z", "1.1" * 100),
        ("$host$http_host$server_name$hostname$scheme Z", "a" * 300),
        ("$upstream_addr$upstream_status$upstream_response_time$upstream_addr Z", "1, " * 100 + "1"),
        ("$upstream_addr $upstream_status $upstream_response_time Z", "- : - : " * 40),
        ('escape=json "$request_uri$args" "$request" Z', '"' + r"\"" * 150),
        (KNOWN_FORMATS["ingress-nginx"], "1.2.3.4 - " + " [" * 150),
    ],
)
@pytest.mark.parametrize("ending", ["", " Z", "x", ' "Z"'])
def test_a_hostile_line_takes_time_of_its_length(form, line, ending):
    """Tried by every way there is, none of these would end; 200 times as long, each still does at once."""
    compiled = compile_format(form)
    for times in (1, 200):
        text = line * times + ending
        found = compiled.match(text[: 1 << 16])
        assert found is None or len(found) == len(SLOTS)


def test_a_list_longer_than_tries_are_kept_is_still_read():
    form = compile_format("$request $upstream_addr Z")
    assert form.match("GET / " + ", ".join(["a"] * (MOST_ITEMS - 1)) + " Z") is not None


def test_the_port_is_what_stands_behind_the_last_colon():
    values = dict(zip(SLOTS, compile_format("$remote_addr:$remote_port $status").match("::1:80 200"), strict=True))
    assert (values["client"], values["client_port"], values["status"]) == ("::1", "80", "200")
