"""The schema of pcapdiag.toml is that of the options: what it admits is read, and nothing else."""

import json
import tomllib

import jsonschema
import pytest

from pcapdiag.cli import main
from pcapdiag.cli.config import EXTRA_KEYS, file_options
from tests.conftest import ROOT

SAMPLES = {"array": ["a", "b"], "boolean": True, "integer": 100, "number": 1.5, "string": "10s"}


def sample(described):
    """Return a value that a schema admits."""
    described = described.get("anyOf", [described])[0]
    return described["enum"][0] if "enum" in described else SAMPLES[described["type"]]


def test_the_schema_admits_what_is_read_and_nothing_else(invoke):
    schema = json.loads(invoke("schema", "config").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    for name, table in schema["properties"].items():
        assert set(table["properties"]) == {*file_options(main, name), *EXTRA_KEYS.get(name, {})}
    whole = {name: {key: sample(d) for key, d in t["properties"].items()} for name, t in schema["properties"].items()}
    jsonschema.validate(whole, schema)
    for wrong in ({"analyze": {"force": True}}, {"completion": {}}, {"analyze": {"width": 5}}, {"analyze": []}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)
    jsonschema.validate(tomllib.loads((ROOT / "deploy" / "pcapdiag.toml").read_text()), schema)
