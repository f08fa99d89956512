"""A bundle as `pcapdiag analyze --bundle` writes it, and tickets on loopback to attach it to."""

import os
import random

import pytest

from pcapdiag.ticket.attach.archive import open_bundle
from pcapdiag.ticket.attach.credentials import require_credentials
from pcapdiag.ticket.attach.run import attach_bundle
from pcapdiag.ticket.attach.targets import parse_target
from pcapdiag.ticket.bundle import BundleFile, text_files, write_bundle
from tests.report import builders
from tests.ticket.attach.servers import TOKEN, USER


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch, tmp_path):
    """No token, proxy, .netrc or keyring of whoever runs the tests takes part."""
    for name in [name for name in os.environ if name.startswith("PCAPDIAG_") and name.endswith(("_TOKEN", "_USER"))]:
        monkeypatch.delenv(name)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("bundle") / "incident.zip"
    report = builders.race_report()
    with path.open("wb") as file:
        write_bundle(file, report, [*text_files(report, {})])
    return path


@pytest.fixture
def bundle(bundle_path):
    with open_bundle(str(bundle_path)) as bundle:
        yield bundle


@pytest.fixture(scope="session")
def large_bundle_path(tmp_path_factory):
    """Path of a bundle that no socket buffer holds."""
    path = tmp_path_factory.mktemp("bundle") / "large.zip"
    report = builders.race_report()
    noise = random.Random(1).randbytes(24 << 20)
    with path.open("wb") as file:
        write_bundle(file, report, [*text_files(report, {}), BundleFile("charts/noise.png", noise)])
    return path


class Operator:
    """Attaches the bundle and keeps what was said meanwhile and how long was waited."""

    def __init__(self, bundle):
        self.bundle = bundle
        self.said = []
        self.waits = []
        self.environment = {
            "PCAPDIAG_JIRA_TOKEN": TOKEN,
            "PCAPDIAG_GITHUB_TOKEN": TOKEN,
            "PCAPDIAG_GITLAB_TOKEN": TOKEN,
            "PCAPDIAG_WEBHOOK_TOKEN": TOKEN,
        }

    def attach(self, url, kind="auto", *, release=""):
        target = parse_target(url, kind)
        if kind == "jira-cloud":
            self.environment["PCAPDIAG_JIRA_USER"] = USER
        credentials = require_credentials(target, self.environment)
        return attach_bundle(
            target, self.bundle, credentials, release=release, say=self.said.append, sleep=self.waits.append
        )


@pytest.fixture
def operator(bundle):
    operator = Operator(bundle)
    yield operator
    assert TOKEN not in "\n".join(operator.said)
