"""--tls-keys on the command line: repeated, from the environment, or refused before anything is read."""

import json

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.compiled_only

CASE = ROOT / "captures" / "requests_lost_inside_tls"
CAPTURE, KEYS = CASE / "proxy.pcap", CASE / "keys.log"


def targets(done):
    assert done.returncode == 1, done.stderr
    return sorted(o["target"] for f in json.loads(done.stdout)["findings"] for o in f["occurrences"])


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """Return the lines of each upstream, in files of their own."""
    folder = tmp_path_factory.mktemp("keys")
    lines = KEYS.read_text().splitlines(keepends=True)
    for name, is_tls_12 in (("tls12", True), ("tls13", False)):
        mine = (line for line in lines if line.startswith("CLIENT_RANDOM") == is_tls_12)
        (folder / name).write_text("".join(mine))
    return [folder / "tls12", folder / "tls13"]


def test_keys_of_several_files_and_of_the_environment_are_used(invoke, halves):
    repeated = ("--tls-keys", halves[0], "--tls-keys", halves[1])
    named = targets(invoke("analyze", CAPTURE, *repeated, "--format", "json", "-q"))
    assert named == ["/hang-up"] * 2 + ["/slow"] * 2 + ["/work"] * 4
    env = {"PCAPDIAG_TLS_KEYS": ":".join(map(str, halves))}
    assert targets(invoke("analyze", CAPTURE, "--format", "json", "-q", env=env)) == named
    assert set(targets(invoke("analyze", CAPTURE, "--format", "json", "-q"))) == {""}


@pytest.mark.parametrize("keys", ["/dev/zero", CAPTURE, CASE / "missing"])
def test_what_holds_no_keys_is_refused_with_a_sentence(invoke, keys):
    done = invoke("analyze", "missing.pcap", "--tls-keys", keys)
    assert done.returncode == 2
    assert str(keys) in done.stderr
    assert "missing.pcap" not in done.stderr
