"""A what-if in each of its forms; hostile text stays text."""

import json

import pytest

from pcapdiag.report.model import InputFile, Tool
from pcapdiag.report.whatif.json import render_json
from pcapdiag.report.whatif.render import render_html, render_markdown, render_terminal
from pcapdiag.report.whatif.sweep import sweep_chart
from tests.report.builders import HOSTILE
from tests.report.whatif.builders import recommended, scenario, whatif

ALSO_TESTS = ("json", "sweep")
TOOL = Tool("pcapdiag", "0")
SWEPT = whatif(swept=[("3s", 0), ("4s", 11)])


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_terminal_keeps_to_its_width(width):
    told = recommended({"max_fails": "0"}, *(scenario(f"proxy.keepalive_timeout={n}s", 1, 2) for n in range(5)))
    assert all(len(line) <= width for line in render_terminal(told, width=width).splitlines())


def test_the_answer_stands_first_in_every_form():
    told = recommended({"proxy.keepalive_timeout": "3.5s"})
    for text in (render_terminal(told, width=400), render_markdown(told), render_html(told, TOOL)):
        at = text.index("no request is predicted to be lost")
        assert at < text.index("How these numbers came about")


def test_hostile_names_are_text():
    told = whatif(scenario(HOSTILE, 1, 1, warnings=(HOSTILE,)))
    assert "<script>alert" not in render_html(told, TOOL)
    assert "\x1b" not in render_terminal(told)


def test_the_page_has_the_sweep_as_a_drawing_and_runs_nothing_foreign():
    page = render_html(SWEPT, TOOL)
    assert "<svg" in page
    assert "default-src 'none'" in page
    assert "http://" not in page.replace("http://www.w3.org/", "")


def test_a_chart_is_of_a_sweep_only():
    assert sweep_chart(whatif()) is None
    chart = sweep_chart(SWEPT)
    assert chart.table.rows[0][0] == "3s"
    assert [tip.text for tip in chart.tips] == [
        "proxy.keepalive_timeout 3s: 0 lost, 40 connections",
        "proxy.keepalive_timeout 4s: 11 lost, 40 connections",
    ]


def test_a_sweep_of_numbers_is_drawn_too():
    points = [scenario(f"proxy.keepalive={n}", 1, 1, settings={"proxy.keepalive": str(n)}) for n in (1, 8)]
    told = whatif()
    told = type(told)((*told.scenarios, *points), told.model, sweep="proxy.keepalive", first_swept=2)
    assert "proxy.keepalive" in sweep_chart(told).svg()


def test_json_holds_what_the_contract_names():
    document = json.loads(render_json(SWEPT, TOOL, [InputFile("a.pcap", "capture", 1, "00")]))
    assert document["schema_version"] == 1
    assert set(document) >= {"schema_version", "tool", "inputs", "scenarios", "recommendation", "model"}
    first = document["scenarios"][0]
    assert first["name"] == "observed"
    assert first["lost_tries"] == {"low": 11, "expected": 11, "high": 11}
    assert set(first["added_latency_ns"]) == {"mean", "p99"}
    assert document["model"]["workers"] == {"value": 1, "source": "nginx.conf:1"}
