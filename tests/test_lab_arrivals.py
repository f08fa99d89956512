"""What the logs of the lab's applications say of lost requests, against the plain text of these logs.

The truth is a search: a line that holds the request id and the proxy's port of the very try. The judge gets less.
"""

import dataclasses
from collections import Counter

import pytest

from pcapdiag.analysis.tries import list_served, list_tries
from pcapdiag.proxy.join.arrivals import ArrivalVerdict, judge_arrivals
from pcapdiag.proxy.logs.upstream_log import read_upstream_log
from tests.lab_truth import LAB, scenarios

pytestmark = [pytest.mark.lab, pytest.mark.compiled_only]

NOT_OF_REQUESTS = ("error.log", "gunicorn_A.log", "gunicorn_B.log", "fpm.log")


def logs_of(scenario):
    found = sorted((LAB / scenario).glob("*.log")) + sorted((LAB / scenario).glob("up?/*.log"))
    return [path for path in found if path.name not in NOT_OF_REQUESTS]


def analysis_of(scenario):
    from pcapdiag.analysis.build import build_analysis
    from pcapdiag.engine.capture.series import group_captures

    return build_analysis(group_captures([str(LAB / scenario / "proxy.pcap")]))


KNOWN = {
    "request ids and ports": {"ids": True, "ports": True},
    "request ids": {"ids": True, "ports": False},
    "ports": {"ids": False, "ports": True},
    "time": {"ids": False, "ports": False},
}


@pytest.mark.parametrize("known", KNOWN)
def test_no_request_of_the_lab_is_said_to_have_arrived_that_did_not_or_the_reverse(lab, known):  # noqa: ARG001 - as ever
    said = Counter()
    for scenario in scenarios():
        paths = logs_of(scenario)
        if not paths:
            continue
        analysis = analysis_of(scenario)
        wires = list_tries(analysis)
        served, _ = list_served(analysis, wires)
        text = "\n".join(path.read_text() for path in paths).split("\n")
        logs = [(str(path), list(read_upstream_log(str(path)))) for path in paths]
        hidden_id = {} if KNOWN[known]["ids"] else {"request_id": ""}
        hidden_port = {} if KNOWN[known]["ports"] else {"client": ""}
        arrivals = judge_arrivals(
            [dataclasses.replace(wire, **hidden_id) for wire in wires],
            [request._replace(**hidden_id) for request in served],
            [(path, [entry._replace(**hidden_id, **hidden_port) for entry in log]) for path, log in logs],
        )
        for wire in wires:
            arrival = arrivals.get(wire.key)
            if arrival is None or not wire.request_id:
                continue
            is_there = any(wire.request_id in line and f"{wire.orig}" in line for line in text)
            said[arrival.verdict] += 1
            if arrival.verdict is ArrivalVerdict.ARRIVED:
                assert is_there, (scenario, wire.key)
            elif arrival.verdict is ArrivalVerdict.NOT_IN_LOG:
                assert not is_there, (scenario, wire.key)
    assert said[ArrivalVerdict.NOT_IN_LOG] >= (300 if known != "time" else 20)
    assert said[ArrivalVerdict.ARRIVED] >= (50 if known != "time" else 0)
