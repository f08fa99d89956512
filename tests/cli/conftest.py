"""Running commands within the test's own process: as `cli`, but without the price of a new one."""

from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from pcapdiag.cli import main
from pcapdiag.engine.compiler.policy import load_kernels


@pytest.fixture(scope="session", autouse=True)
def built():
    """Build before the first test: that a library is built is said on stderr, and no part of these facts."""
    load_kernels()


@pytest.fixture(scope="session")
def invoke():
    """Return a function that runs a command and gives its exit code, stdout and stderr."""

    def invoke(*arguments, stdin=None, env=None):
        done = CliRunner(env=env).invoke(main, [str(a) for a in arguments], input=stdin, prog_name="pcapdiag")
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return SimpleNamespace(returncode=done.exit_code, stdout=done.stdout, stderr=done.stderr)

    return invoke
