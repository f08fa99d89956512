"""A short run of every fuzz target: its seeds, which hold what earlier runs found, and some mutations."""

import os

import pytest

from tests.fuzz import run, targets
from tests.waiting import HANG_S

N_MUTATION = 20 if os.environ.get("NUMBA_DISABLE_JIT") == "1" else 300


@pytest.mark.parametrize("name", ["capture", "heads", "logs"])
def test_a_fuzz_target_survives_its_seeds_and_their_mutations(name):
    n_runs, failures = run.fuzz(name, seconds=HANG_S, hang_s=HANG_S, max_runs=N_MUTATION)
    assert not failures, "\n".join(failures.values())
    assert n_runs >= len(run.read_seeds(name))


def test_the_fuzzer_reports_each_kind_of_failure_once_and_keeps_its_input(monkeypatch, tmp_path):
    def fragile(data, folder):
        assert folder
        if len(data) % 2:
            raise IndexError(len(data))

    monkeypatch.setitem(targets.TARGETS, "heads", fragile)
    _, failures = run.fuzz("heads", seconds=HANG_S, max_runs=50, out=tmp_path)
    ((digest, text),) = failures.items()
    assert "IndexError" in text
    assert len((tmp_path / f"heads-{digest}").read_bytes()) % 2 == 1
