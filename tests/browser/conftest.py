"""A real browser, started once: Debian's Chromium, without a screen and without a network."""

import shutil
from contextlib import contextmanager

import pytest

from tests.waiting import HANG_S

CHROMIUM = "/usr/bin/chromium"
# Without these flags Chromium looks for its maker's servers at every start.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def browser():
    """Chromium under Playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if shutil.which(CHROMIUM) is None:
        pytest.skip(f"no browser at {CHROMIUM}")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=HANG_S * 1000)
        yield chromium
        chromium.close()


@contextmanager
def context_of(browser, **options):
    """Open a context in which everything is waited for until it is there."""
    context = browser.new_context(**options)
    context.set_default_timeout(HANG_S * 1000)  # the default fails where the machine is busy
    yield context
    context.close()
