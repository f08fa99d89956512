"""completion: scripts that shells obey, and what they are told."""

import os
import shutil
import subprocess
import sys

import pytest

from pcapdiag.cli.choices import known_codes
from pcapdiag.rules import RULES
from tests.conftest import ROOT
from tests.waiting import HANG_S

ALSO_TESTS = ("choices",)


def test_the_codes_that_are_completed_are_those_of_the_rules():
    assert list(known_codes()) == sorted((r.code, r.name) for r in RULES)


@pytest.fixture
def complete(tmp_path):
    """Return a function that gives what bash, with our script, makes of words of which the last is not yet whole."""
    bash = shutil.which("bash")
    program = tmp_path / "pcapdiag"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m pcapdiag "$@"\n')
    program.chmod(0o700)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    (tmp_path / "script").write_text(
        subprocess.run([program, "completion", "bash"], capture_output=True, text=True, env=env, check=True).stdout
    )

    def complete(*words):
        asked = (
            f'. {tmp_path}/script; COMP_WORDS=(pcapdiag "$@"); COMP_CWORD=$#; _pcapdiag_completion pcapdiag;'
            ' printf "%s\\n" "${COMPREPLY[@]}"'
        )
        done = subprocess.run(
            [bash, "-c", asked, "bash", *words], capture_output=True, text=True, env=env, timeout=HANG_S, check=True
        )
        assert done.stderr == ""
        return done.stdout.split()

    return complete


def test_bash_completes_commands_options_values_and_codes(complete):
    assert complete("an") == ["analyze"]
    assert complete("proxy.pcap", "--fail-") == ["--fail-on"], "of a capture without a command, too"
    assert complete("analyze", "--format", "ht") == ["html"]
    codes, names = [rule.code for rule in RULES], [rule.name for rule in RULES]
    assert complete("analyze", "--select", "PD5") == [code for code in codes if code.startswith("PD5")]
    assert complete("analyze", "--ignore", "PD101,pd6") == [f"PD101,{code}" for code in codes if code.startswith("PD6")]
    assert complete("rule", "PD502") == ["PD502"]
    assert complete("rule", "mtu") == [name for name in names if name.startswith("mtu")]
    assert complete("show", "exchanges", "x.pcap", "--columns", "resp,idle") == ["resp,idle_before_ns"]
    assert complete("show", "frames", "x.pcap", "--sort", "wi") == ["wire_len", "window"]
    assert complete("slice", "--code", "PD99") == ["PD999"]


@pytest.mark.parametrize(
    ("shell", "begins", "holds"),
    [
        ("zsh", "#compdef pcapdiag\n", "_PCAPDIAG_COMPLETE=zsh_complete pcapdiag"),
        ("fish", "function _pcapdiag_completion", "_PCAPDIAG_COMPLETE=fish_complete"),
    ],
)
def test_the_script_of_another_shell_is_one(invoke, shell, begins, holds):
    done = invoke("completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(begins)
    assert holds in done.stdout


def test_a_shell_that_is_not_known_is_refused(invoke):
    done = invoke("completion", "zhs")
    assert done.returncode == 2
    assert "did you mean zsh?" in done.stderr
