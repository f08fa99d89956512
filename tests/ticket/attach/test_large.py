"""A large bundle goes out in pieces: memory stays small, and a connection cut in the middle leaves nothing."""

import hashlib
import os
import subprocess
import sys

import pytest

from pcapdiag.ticket.attach.archive import open_bundle
from tests.ticket.attach.conftest import Operator
from tests.ticket.attach.servers import TOKEN, GitHub, GitLab, Jira, Webhook, serving

pytestmark = pytest.mark.compiled_only


PLACES = {
    "jira": (Jira, "/browse/OPS-12", "POST .*/attachments", lambda s: [a["content"] for a in s.attachments]),
    "github": (GitHub, "/acme/proxy/issues/7", "POST .*/assets", lambda s: [a["content"] for a in s.assets]),
    "gitlab": (GitLab, "/acme/ops/proxy/-/issues/7", "POST .*/uploads", lambda s: [*s.uploads.values()]),
    "webhook": (Webhook, "/in", "POST", lambda s: [r.form()["bundle"][1] for r in s.requests]),
}


@pytest.fixture(params=PLACES)
def place(request):
    make, path, upload, files = PLACES[request.param]
    with serving(make()) as server:
        yield server, server.url + path, upload, files


@pytest.fixture
def operator(large_bundle_path):
    with open_bundle(str(large_bundle_path)) as bundle:
        yield Operator(bundle)


def release_of(server):
    return "incidents" if isinstance(server, GitHub) else ""


def test_a_connection_cut_in_the_middle_of_the_bundle_is_made_up_for(place, operator):
    server, url, upload, files = place
    server.fail(upload, "cut early", times=2)
    operator.attach(url, release=release_of(server))
    assert [hashlib.sha256(content).hexdigest() for content in files(server)] == [operator.bundle.sha256]
    assert operator.waits == [1.0, 2.0]


MEASURED = """
import resource, sys
from pcapdiag.cli import main
try:
    main(["attach", *sys.argv[1:]])
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def test_a_bundle_is_not_held_in_memory(place, bundle_path, large_bundle_path):
    server, url, _, _ = place
    variables = {f"PCAPDIAG_{name}_TOKEN": TOKEN for name in ("JIRA", "GITHUB", "GITLAB", "WEBHOOK")}
    release = ["--release", "incidents"] if release_of(server) else []

    def peak_bytes(bundle):
        command = [sys.executable, "-c", MEASURED, str(bundle), "--to", url, "--quiet", *release]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **variables}, check=True)
        return int(done.stdout.splitlines()[-1])

    small, large = peak_bytes(bundle_path), peak_bytes(large_bundle_path)
    assert large - small < large_bundle_path.stat().st_size // 2
