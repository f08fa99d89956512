"""The schemas that are printed are those of what is written, and say no to anything else."""

import copy
import json

import jsonschema
import pytest

from pcapdiag.report import schema
from tests.conftest import ROOT

GOLDEN = sorted((ROOT / "tests" / "golden").glob("*.json"))


def validator(made):
    jsonschema.Draft202012Validator.check_schema(made)
    return jsonschema.Draft202012Validator(made, format_checker=jsonschema.FormatChecker())


@pytest.fixture(scope="module")
def report():
    return validator(schema.report_schema())


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_every_golden_report_is_valid(report, path):
    report.validate(json.loads(path.read_text()))


def test_every_field_of_a_report_is_in_the_schema(report):
    """Else a misspelled property would be valid whatever it holds: additional ones are."""
    unknown = copy.deepcopy(report.schema)
    for object_schema in (unknown, *unknown["$defs"].values()):
        object_schema["additionalProperties"] = False
    for path in GOLDEN:
        validator(unknown).validate(json.loads(path.read_text()))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda told: told.pop("totals"),
        lambda told: told["totals"].update(exchanges="53"),
        lambda told: told["findings"][0].pop("message"),
        lambda told: told["findings"][0].update(severity="grave"),
        lambda told: told["findings"][0].update(first_ts=7),
        lambda told: told.update(schema_version=2),
        lambda told: told["captures"][0].update(paths="proxy.pcap"),
    ],
)
def test_what_is_no_report_is_not_valid(report, spoil):
    told = json.loads((ROOT / "tests" / "golden" / "idle_close_race_65s.json").read_text())
    spoil(told)
    assert not report.is_valid(told)
