"""The services that scans work with, run for real on this machine: PostgreSQL, an S3 API, a Dask cluster."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.scan import places


def _wait_for(is_there, what, timeout_s=20):
    until = time.monotonic() + timeout_s
    while not is_there():
        assert time.monotonic() < until, f"{what} did not start"
        time.sleep(0.05)


def _free_port():
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


def _listens(port):
    with socket.socket() as opened:
        opened.settimeout(0.2)
        return opened.connect_ex(("127.0.0.1", port)) == 0


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

    port = _free_port()
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
    _wait_for(lambda: _listens(port), "the S3 API")
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
def cluster(tmp_path):
    """Return the address of a Dask scheduler with two workers, processes of their own, and their process numbers."""
    port = _free_port()
    quiet = {"stdout": (tmp_path / "dask.log").open("w"), "stderr": subprocess.STDOUT}
    environment = places.environment() | {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "3"}
    address = f"tcp://127.0.0.1:{port}"
    start = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port)]
    processes = [subprocess.Popen([*start, "--no-dashboard", "--no-show"], env=environment, **quiet)]
    _wait_for(lambda: _listens(port), "the Dask scheduler")

    def add_worker():
        command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard"]
        command += ["--memory-limit", "1GiB", "--local-directory", str(tmp_path), "--no-nanny"]
        processes.append(subprocess.Popen(command, env=environment, **quiet))
        return processes[-1]

    add_worker.address = address
    add_worker.workers = [add_worker(), add_worker()]
    yield add_worker
    for process in processes:
        process.kill()
        process.wait()
    quiet["stdout"].close()
