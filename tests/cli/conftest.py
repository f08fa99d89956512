"""Running commands within the test's own process: as `cli`, but without the price of a new one."""

from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from pcapdiag.cli import main
from pcapdiag.pipeline import warm_up


@pytest.fixture(scope="session", autouse=True)
def compiled():
    """Compile before the first test: what the first run on a machine says on stderr is no part of these facts."""
    warm_up()


@pytest.fixture(scope="session")
def invoke():
    """Return a function that runs a command and gives its exit code, stdout and stderr."""

    def invoke(*arguments, stdin=None, env=None):
        done = CliRunner(env=env).invoke(main, [str(a) for a in arguments], input=stdin, prog_name="pcapdiag")
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return SimpleNamespace(returncode=done.exit_code, stdout=done.stdout, stderr=done.stderr)

    return invoke
