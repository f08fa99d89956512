"""schema: what commands write is valid by what this prints."""

import json

import jsonschema
import pytest

from tests.conftest import ROOT

CASE = ROOT / "captures" / "idle_close_race_65s"
OTHER = ROOT / "captures" / "idle_close_race_before" / "proxy.pcap"
LOGS = ("--error-log", CASE / "error.log", "--access-log", CASE / "access.log", "--proxy-conf", CASE / "nginx.conf")


@pytest.mark.parametrize(
    ("document", "command"),
    [
        ("report", ["analyze", CASE / "proxy.pcap", *LOGS, "--upstream-capture", CASE / "upstream_a.pcap"]),
        ("report", ["analyze", ROOT / "captures" / "worker_exit" / "proxy.pcap", "--anonymize"]),
        ("comparison", ["compare", OTHER, CASE / "proxy.pcap"]),
        ("comparison", ["compare", OTHER, ROOT / "captures" / "healthy_keepalive" / "proxy.pcap", "--as-one"]),
        ("whatif", ["whatif", CASE / "proxy.pcap", *LOGS, "--recommend"]),
        ("whatif", ["whatif", CASE / "proxy.pcap", "--sweep", "proxy.keepalive_timeout=1s:3s:1s"]),
    ],
)
def test_what_is_written_is_valid_by_what_is_printed(invoke, document, command):
    printed = invoke("schema", document)
    assert (printed.returncode, printed.stderr) == (0, "")
    made = json.loads(printed.stdout)
    done = invoke(*command, "--format", "json")
    assert done.returncode in {0, 1}, done.stderr
    jsonschema.validate(json.loads(done.stdout), made, jsonschema.Draft202012Validator)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({}, made, jsonschema.Draft202012Validator)


def test_a_document_that_is_none_is_refused_with_the_nearest(invoke):
    done = invoke("schema", "reprot")
    assert done.returncode == 2
    assert "did you mean report?" in done.stderr
