"""All 425 unanswered requests of the lab, each with its cause, and no other, in every form of every capture."""

import pytest

from tests.lab_truth import LAB, compare, fill_expected, forms_of, run_report, scenarios, truth_of

pytestmark = pytest.mark.lab

SCENARIOS = scenarios() if LAB.is_dir() else []
LABELS = [form.label for scenario in SCENARIOS for form in forms_of(scenario)]

DIFFERENCES = {
    "a_idle_race/derived/capture_drops_3pct.pcap": (
        "Two requests fell out of the capture; the responses to them are exchanges of their own.",
        ["86 exchanges instead of 84"],
    ),
    "a_idle_race/derived/mid_start.pcap": (
        "The capture begins inside a response, which is the first exchange of its connection.",
        ["62 exchanges instead of 61", "mid_start.pcap frame 11: depth 1 instead of 0"],
    ),
    "a_idle_race/derived/truncated.pcap": (
        "A request sent less than a round trip before the capture ends: open_at_capture_end in truth_alt.json.",
        ["truncated.pcap frame 490: false, PD999 (depth 0, 10.1.1.100:48848 -> 10.1.1.2:80)"],
    ),
    "a_idle_race/proxy_client_side.pcap": (
        "Only the client leg was captured, and nothing in it says that the responder is a proxy.",
        ["49 connections instead of 0"],
    ),
    "c3_middlebox_rst/middlebox_any.pcap": (
        "At the router that made the resets they have the hop count of the upstream's packets; not so at the proxy.",
        [
            f"middlebox_any.pcap frame {frame}: PD106 instead of PD105 (rst_no_fin)"
            for frame in (30, 92, 94, 96, 150, 152, 168, 212, 214, 216, 254, 256, 318, 320, 322)
        ],
    ),
}
"""label: (reason, lines of `compare`). A line that no longer appears fails as one that is not listed does."""

TRUNCATED = {"d4_close_variants": 12}
"""Responses that began and broke off: four times half a head, content and FIN, content and RST."""


def _marks(label):
    return [] if label.endswith("/proxy.pcap") else [pytest.mark.compiled_only]


@pytest.mark.parametrize("label", [pytest.param(label, marks=_marks(label)) for label in LABELS])
def test_a_form_of_a_capture_tells_what_happened(lab, label):  # noqa: ARG001 - skips without the lab
    scenario, _, name = label.partition("/")
    form = next(f for f in forms_of(scenario) if f.name == name)
    lines, *_ = compare(form)
    _, listed = DIFFERENCES.get(label, ("", ()))
    assert sorted(lines) == sorted(listed)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_response_that_broke_off_is_no_unanswered_request(lab, scenario):
    report = run_report([lab / scenario / "proxy.pcap"])
    found = [f for f in report["findings"] if f["code"] == "PD203"]
    assert sum(len(f["occurrences"]) for f in found) == TRUNCATED.get(scenario, 0)


def test_the_small_decoder_reads_the_truth_out_of_the_captures(lab):  # noqa: ARG001 - skips without the lab
    """What is expected of other forms is derived with it, so it must reproduce truth.json for `proxy.pcap`."""
    n_unanswered = 0
    for scenario in SCENARIOS:
        form, truth = forms_of(scenario)[0], truth_of(scenario)
        fill_expected(form)
        packets = truth["packets"]
        n_request = packets["http_requests"] or form.requests
        assert (form.connections, form.requests) == (packets["tcp_streams"], n_request), scenario
        by_frame = {e.frame: e for e in form.expected.values()}
        for entry in truth["unanswered"]:
            idle = entry.get("idle_before_s")
            idle_ns = -1 if idle is None else round(idle * 1e6) * 1000
            assert by_frame[entry["req_frame"]].idle_before_ns == idle_ns
        n_unanswered += len(form.expected)
    assert n_unanswered == 425
