"""The services that scans work with, run for real on this machine: PostgreSQL, an S3 API, a Dask cluster."""

import logging
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.scan import places


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
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }.items():
        monkeypatch.setenv(name, value)
    places.wait_for_port(f"tcp://127.0.0.1:{port}")
    client = boto3.client("s3")
    client.create_bucket(Bucket="captures")

    def put(folder):
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            client.put_object(Bucket="captures", Key=str(path.relative_to(folder)), Body=path.read_bytes())
        return "s3://captures"

    put.stop = server.kill
    yield put
    server.kill()
    server.wait()


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Return a function that starts a `LocalCluster` of Dask, whose workers see the environment of that moment."""
    import dask
    from distributed import LocalCluster

    monkeypatch.delenv("PCAPDIAG_KERNELS", raising=False)  # as in `places.environment`
    monkeypatch.setenv("PYTHONPATH", str(places.ROOT))
    started = []

    def start(**options):
        given = {"threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": logging.CRITICAL}
        with dask.config.set({"temporary-directory": str(tmp_path)}):
            started.append(LocalCluster(processes=True, **given | options))
        return started[-1]

    yield start
    for one in started:
        one.close(timeout=10)
