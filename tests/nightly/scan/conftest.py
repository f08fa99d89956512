"""The services that scans work with, run for real on this machine: PostgreSQL, an S3 API, a Dask cluster."""

import getpass
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.nightly.scan import places
from tests.nightly.scan.relay import Relay
from tests.waiting import HANG_S


@pytest.fixture
def begin():
    """Return a function that starts a program, which does not outlive the test."""
    processes = []

    def start(*command):
        processes.append(
            subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=places.environment()
            )
        )
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def postgres():
    """Return a function that makes an empty database of PostgreSQL and returns its URL; it stops the server, too."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs:
        pytest.skip("PostgreSQL is not installed")
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # a short path: its socket lies there
    server = programs[-1].parent
    # It refuses to run as root.
    user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    if user:
        shutil.chown(folder, "postgres", "postgres")

    def run(*command):
        return subprocess.run([*user, *map(str, command)], check=True, capture_output=True, cwd="/")

    run(server / "initdb", "-D", folder / "data", "-A", "trust", "-U", "tester", "--no-sync")
    options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"

    def control(*command):
        run(server / "pg_ctl", "-D", folder / "data", "-w", "-l", folder / "log", *command)

    control("-o", options, "start")
    names = iter(range(100))

    def make():
        name = f"store{next(names)}"
        run(server / "createdb", "-h", folder, "-U", "tester", name)
        return f"postgresql://tester@/{name}?host={folder}"

    make.stop = lambda: control("-m", "immediate", "stop")
    make.start = lambda: control("-o", options, "start")
    try:
        yield make
    finally:
        subprocess.run(
            [*user, server / "pg_ctl", "-D", folder / "data", "-m", "immediate", "stop"],
            capture_output=True,
            check=False,
            cwd="/",
        )
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def bucket(monkeypatch):
    """Return a function that puts a folder's files into a bucket of an S3 API, and the URL of the bucket."""
    import boto3

    port = places.free_port()
    address = f"tcp://127.0.0.1:{port}"
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }.items():
        monkeypatch.setenv(name, value)
    servers = []

    def start():
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        servers.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        places.wait_for_port(address)
        boto3.client("s3").create_bucket(Bucket="captures")

    def stop():
        servers[-1].kill()
        servers[-1].wait()

    def put(folder):
        client = boto3.client("s3")
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            client.put_object(Bucket="captures", Key=str(path.relative_to(folder)), Body=path.read_bytes())
        return "s3://captures"

    start()
    put.stop, put.start = stop, start
    yield put
    stop()


@pytest.fixture
def relay():
    """Return a `Relay`."""
    made = Relay()
    yield made
    made.close()


@pytest.fixture
def sftp(tmp_path, monkeypatch):
    """Return a function that gives the URL of a folder of this machine by sftp, from an sshd of its own."""
    program = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip("openssh-server is not installed")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # root's sshd locks itself in there
    port = places.free_port()
    work, home = tmp_path / "sshd", tmp_path / "home"
    keys = home / ".ssh"
    work.mkdir()
    keys.mkdir(parents=True)
    for path in (work / "host_key", keys / "id_ed25519"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    known = (work / "host_key.pub").read_text().rsplit(" ", 1)[0]
    (keys / "known_hosts").write_text(f"[127.0.0.1]:{port} {known}\n")
    config = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": work / "host_key",
        "AuthorizedKeysFile": keys / "id_ed25519.pub",
        "StrictModes": "no",
        "LoginGraceTime": 0,
        "PidFile": "none",
        "Subsystem": "sftp internal-sftp",
    }
    (work / "config").write_text("".join(f"{name} {value}\n" for name, value in config.items()))
    with (work / "log").open("w") as log:
        server = subprocess.Popen([program, "-D", "-e", "-f", work / "config"], stderr=log)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    patience = dict.fromkeys(("timeout", "banner_timeout", "auth_timeout"), HANG_S)
    monkeypatch.setenv("FSSPEC_SFTP", json.dumps(patience))
    places.wait_for_port(f"tcp://127.0.0.1:{port}")

    def url(folder):
        return f"sftp://{getpass.getuser()}@127.0.0.1:{port}{folder}"

    url.known_hosts = keys / "known_hosts"
    yield url
    server.kill()
    server.wait()


@pytest.fixture
def google(tmp_path, monkeypatch):
    """Return a function that puts a folder's files into a bucket of Google Cloud Storage, emulated; gives its URL."""
    port = places.free_port()
    home = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "gcp_storage_emulator", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (tmp_path / "google.log").open("w") as log:
        server = subprocess.Popen([*command, "--in-memory", "--default-bucket", "captures"], stdout=log, stderr=log)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", home)
    if tuple(map(int, version("gcsfs").split(".")[:2])) < (2025, 7):
        monkeypatch.setenv("FSSPEC_GCS_TOKEN", "anon")  # else old clients look for credentials, in vain and long
    places.wait_for_port(f"tcp://127.0.0.1:{port}")

    def put(folder):
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            name = urllib.parse.quote(str(path.relative_to(folder)), safe="")
            where = f"{home}/upload/storage/v1/b/captures/o?uploadType=media&name={name}"
            with urllib.request.urlopen(urllib.request.Request(where, path.read_bytes(), method="POST")) as answer:  # noqa: S310 - ours
                assert answer.status == 200
        return "gs://captures"

    yield put
    server.kill()
    server.wait()


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Return a function that starts a `LocalCluster` of Dask, whose workers see the environment of that moment."""
    import dask
    from distributed import LocalCluster

    monkeypatch.setenv("PYTHONPATH", str(places.ROOT))
    started = []

    def start(**options):
        given = {"threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": logging.CRITICAL}
        with dask.config.set({"temporary-directory": str(tmp_path)}):
            started.append(LocalCluster(processes=True, **given | options))
        return started[-1]

    yield start
    for one in started:
        one.close(timeout=HANG_S)
