"""The JSON document is what its schema says."""

import json
from pathlib import Path

import jsonschema

from pcapdiag.analysis.inputs import Inputs
from pcapdiag.api.triage import triage_inputs
from pcapdiag.report.schema import triage_schema
from pcapdiag.report.triage.render import render_json

CASES = Path(__file__).parents[3] / "captures"


def test_the_document_is_what_the_schema_says():
    case = CASES / "idle_close_race_65s"
    for inputs in (
        Inputs(error_logs=(str(case / "error.log"),), proxy_conf=str(case / "nginx.conf")),
        Inputs(access_logs=(str(case / "access.log"),)),
        Inputs(proxy_conf=str(case / "nginx.conf")),
    ):
        result = triage_inputs(inputs)
        document = json.loads(render_json(result.triage, result.tool, result.inputs))
        jsonschema.validate(document, triage_schema())
        assert [file["path"] for file in document["inputs"]] == [*inputs.kinds]
        assert document["capture"]["command"][0].startswith("tcpdump ")
