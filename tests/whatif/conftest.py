"""The trials of a real nginx that tests of this folder share."""

import pytest

from tests.whatif.nginx_trials import N_TRIALS, run_trials, why_not

SEED = 12


@pytest.fixture(scope="session")
def trials(tmp_path_factory):
    """Return what nginx did in some hundred configurations, as `nginx_trials.Trial`."""
    if reason := why_not():
        pytest.skip(f"no trials of nginx: {reason}")
    return run_trials(SEED, N_TRIALS, tmp_path_factory.mktemp("nginx"))
