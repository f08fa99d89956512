"""What deploy/ holds, checked and run with the programs that it is for, as far as one machine allows."""

import http.client
import http.server
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
import tomllib
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.nightly.scan.places import capture, environment
from tests.waiting import HANG_S, is_alive, wait_until

pytestmark = pytest.mark.compiled_only

DEPLOY = ROOT / "deploy"
INSTALLED = "/opt/pcapdiag/bin/pcapdiag"


def needs(program):
    found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def run(*command, **options):
    given = {"capture_output": True, "text": True, "timeout": HANG_S, **options}
    return subprocess.run([str(part) for part in command], check=False, **given)


@pytest.fixture
def program(tmp_path):
    """Return pcapdiag as an executable file."""
    file = tmp_path / "pcapdiag"
    file.write_text(f'#!/bin/sh\nexec {sys.executable} -m pcapdiag "$@"\n')
    file.chmod(0o755)
    return file


@pytest.fixture
def config(tmp_path):
    """Return a configuration folder with deploy's own file, its paths moved into a folder of the test."""
    work = tmp_path / "work"
    (work / "var" / "captures").mkdir(parents=True)
    (work / "var" / "lib" / "pcapdiag").mkdir(parents=True)
    text = (DEPLOY / "pcapdiag.toml").read_text()
    text = re.sub(r'"(/var/[^"]*)"', rf'"{work}\1"', text)
    text = re.sub(r"(?m)^(error-log|proxy-conf).*\n", "", text)
    (tmp_path / "etc" / "pcapdiag").mkdir(parents=True)
    (tmp_path / "etc" / "pcapdiag" / "pcapdiag.toml").write_text(text)
    return work


def said_of(folder, done):
    """Return what `systemd-analyze` said, but for other units of this machine, which it loads and judges, too."""
    lines = (done.stdout + done.stderr).splitlines()
    return [line for line in lines if not re.match(r"/(usr/)?lib/systemd/", line) or str(folder) in line]


def test_the_units_of_systemd_are_valid_and_hardened(tmp_path, program):
    analyze = needs("systemd-analyze")
    for name in ("pcapdiag-scan.service", "pcapdiag-scan.timer"):
        text = (DEPLOY / "systemd" / name).read_text()
        (tmp_path / name).write_text(text.replace(INSTALLED, str(program)))
    units = sorted(tmp_path.glob("pcapdiag-scan.*"))
    assert len(units) == 2
    done = run(analyze, "verify", "--man=no", *units, cwd=tmp_path)
    assert (done.returncode, said_of(tmp_path, done)) == (0, [])
    # 10 is a service that may do everything, 2 is what a service with a network and a disk comes down to.
    done = run(analyze, "security", "--offline=true", "--threshold=20", "--no-pager", units[0])
    assert done.returncode == 0, done.stdout
    assert "OK" in done.stdout.splitlines()[-1]


def test_the_unit_of_the_flight_recorder_is_valid_and_hardened(tmp_path, program):
    analyze = needs("systemd-analyze")
    unit = tmp_path / "pcapdiag-watch.service"
    unit.write_text((DEPLOY / "systemd" / unit.name).read_text().replace(INSTALLED, str(program)))
    done = run(analyze, "verify", "--man=no", unit, cwd=tmp_path)
    assert (done.returncode, said_of(tmp_path, done)) == (0, [])
    done = run(analyze, "security", "--offline=true", "--threshold=25", "--no-pager", unit)
    assert done.returncode == 0, done.stdout
    assert "OK" in done.stdout.splitlines()[-1]


class _Silent(http.server.BaseHTTPRequestHandler):
    """Answers all but one path, at which it closes."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/3":
            self.close_connection = True
            return
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


def test_the_command_of_the_flight_recorder_records_what_fails_and_ends_in_order(tmp_path, program):
    needs("tcpdump")
    needs("setpriv")
    if os.geteuid() != 0:
        pytest.skip("capturing takes root")
    text = (DEPLOY / "systemd" / "pcapdiag-watch.service").read_text()
    command = re.search(r"(?m)^ExecStart=/bin/bash -c '(.*)'$", text)[1].replace("$$", "$")
    out = tmp_path / "out"
    command = command.replace(INSTALLED, str(program)).replace("/var/lib/pcapdiag-watch", str(out))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Silent)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    env = environment() | {"XDG_CONFIG_HOME": str(tmp_path), "CAPTURE": f"-i lo -Z root tcp port {server.server_port}"}
    command = command.replace("watch -", "watch - --grace 1s")
    with (tmp_path / "said").open("wb") as said, (tmp_path / "errors").open("wb") as errors:
        recorder = subprocess.Popen(["/bin/bash", "-c", command], env=env, stdout=said, stderr=errors)
    try:
        wait_until((out / ".watch" / "ring").is_dir)
        wait_until(lambda: "listening on lo" in (tmp_path / "errors").read_text())
        for path in ("/1", "/3"):
            ask(server.server_port, path)
        wait_until((out / "incidents.jsonl").exists)
        children = Path(f"/proc/{recorder.pid}/task/{recorder.pid}/children").read_text().split()
        [capturing] = [pid for pid in children if Path(f"/proc/{pid}/comm").read_text() == "tcpdump\n"]
        # As `systemctl stop` does it with KillMode=mixed: the main process alone.
        recorder.terminate()
        assert recorder.wait(HANG_S) == 1, (tmp_path / "errors").read_text()
        ask(server.server_port, "/1")  # tcpdump learns that nobody reads
        wait_until(lambda: not is_alive(capturing))
    finally:
        recorder.kill()
        server.shutdown()
        server.server_close()
    assert re.search(r"Z PD2\d\d .*\[1 new\]", (tmp_path / "said").read_text())


def ask(port, path):
    """Ask for two things on one connection; the second may not be answered."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HANG_S)
    connection.request("GET", "/1")
    connection.getresponse().read()
    connection.request("GET", path)
    with suppress(http.client.HTTPException, OSError):
        connection.getresponse().read()
    connection.close()


def test_the_timer_runs_every_night():
    analyze = needs("systemd-analyze")
    when = re.search(r"(?m)^OnCalendar=(.*)$", (DEPLOY / "systemd" / "pcapdiag-scan.timer").read_text())[1]
    done = run(analyze, "calendar", "--iterations=3", "--base-time=2026-11-20 00:00:00 UTC", when, env={"TZ": "UTC"})
    assert done.returncode == 0, done.stderr
    assert re.findall(r"2026-11-\d\d 04:30:00", done.stdout) == [f"2026-11-{day} 04:30:00" for day in (20, 21, 22)]


def test_the_user_of_the_service_is_one_that_sysusers_makes(tmp_path):
    sysusers = needs("systemd-sysusers")
    service = (DEPLOY / "systemd" / "pcapdiag-scan.service").read_text()
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    done = run(sysusers, f"--root={root}", DEPLOY / "systemd" / "pcapdiag.sysusers")
    assert done.returncode == 0, done.stderr
    user = re.search(r"(?m)^User=(.*)$", service)[1]
    assert any(line.startswith(f"{user}:") for line in (root / "etc" / "passwd").read_text().splitlines())


def test_deploys_own_pcapdiag_toml_is_a_whole_set_up(tmp_path, program, config):
    capture(config / "var" / "captures" / "proxy.pcap")
    for file in (config / "var" / "captures").iterdir():
        os.utime(file, (1_700_000_000, 1_700_000_000))
    env = environment() | {"XDG_CONFIG_HOME": str(tmp_path / "etc")}
    done = run(program, "scan", env=env, cwd="/")
    assert done.returncode == 1, done.stderr
    state = config / "var" / "lib" / "pcapdiag"
    assert {"findings.jsonl", "site", "store.db"} <= {p.name for p in state.iterdir()}
    assert "new" in run(program, "history", env=env, cwd="/").stdout


def test_the_line_of_cron_is_one_and_does_its_work(tmp_path, program, config):
    lines = [line for line in (DEPLOY / "cron" / "pcapdiag").read_text().splitlines() if line and line[0] != "#"]
    settings, jobs = lines[:-1], lines[-1:]
    assert all(re.fullmatch(r"[A-Z_]+=\S+", line) for line in settings)
    fields = re.fullmatch(r"([\d*]+) ([\d*]+) ([\d*]+) ([\d*]+) ([\d*]+) (\S+) ([^%]+)", jobs[0])
    assert fields, "a % would have to be escaped"
    assert fields.groups()[:6] == ("30", "4", "*", "*", "*", "pcapdiag")
    capture(config / "var" / "captures" / "proxy.pcap")
    os.utime(config / "var" / "captures" / "proxy.pcap", (1_700_000_000, 1_700_000_000))
    line = fields[7].replace(INSTALLED, str(program)).replace("/var/lib", f"{config}/var/lib")
    env = environment() | {"XDG_CONFIG_HOME": str(tmp_path / "etc")}
    done = run("/bin/sh", "-c", line, env=env, cwd="/")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    assert "1 read" in (config / "var" / "lib" / "pcapdiag" / "last-scan.txt").read_text()


def test_the_manifest_for_kubernetes_is_what_its_schemas_say():
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    import yaml

    documents = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "cronjob.yaml").read_text()))
    assert [document["kind"] for document in documents] == ["ConfigMap", "PersistentVolumeClaim", "CronJob"]
    for document in documents:
        for version in ("1.27", "1.32"):
            validate.validate(document, version, strict=True)
    pod = documents[2]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert container["securityContext"]["readOnlyRootFilesystem"]


def test_the_configuration_in_the_manifest_is_one(tmp_path, program):
    import yaml

    text = next(yaml.safe_load_all((DEPLOY / "kubernetes" / "cronjob.yaml").read_text()))["data"]["pcapdiag.toml"]
    folder = tmp_path / "etc" / "pcapdiag"
    folder.mkdir(parents=True)
    (folder / "pcapdiag.toml").write_text(text)
    assert tomllib.loads(text)["scan"]["fail-on"] == "never"
    env = environment() | {"XDG_CONFIG_HOME": str(tmp_path / "etc")}
    done = run(program, "scan", "--help", env=env, cwd="/")
    assert done.returncode == 0, done.stderr


def test_the_hook_is_a_script_that_shellcheck_finds_nothing_in():
    done = run(needs("shellcheck"), DEPLOY / "hooks" / "tcpdump-rotated.sh")
    assert (done.returncode, done.stdout) == (0, "")
    assert run("/bin/sh", "-n", DEPLOY / "hooks" / "tcpdump-rotated.sh").returncode == 0
    assert os.access(DEPLOY / "hooks" / "tcpdump-rotated.sh", os.X_OK)


class _Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


@contextmanager
def traffic():
    """Yield the port of a server that is asked something twenty times a second."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answer)
    server.daemon_threads = True
    is_over = threading.Event()

    def ask():
        while not is_over.wait(0.05):
            connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=HANG_S)
            connection.request("GET", "/")
            connection.getresponse().read()
            connection.close()

    threads = [threading.Thread(target=work, daemon=True) for work in (server.serve_forever, ask)]
    for thread in threads:
        thread.start()
    try:
        yield server.server_port
    finally:
        is_over.set()
        threads[1].join()
        server.shutdown()
        server.server_close()


def test_tcpdump_calls_the_hook_and_its_file_is_in_the_store(tmp_path, program, config, cli):
    tcpdump = needs("tcpdump")
    if os.geteuid() != 0:
        pytest.skip("capturing takes root")
    env = environment() | {"XDG_CONFIG_HOME": str(tmp_path / "etc"), "PCAPDIAG": str(program)}
    captures = config / "var" / "captures"
    store = config / "var" / "lib" / "pcapdiag" / "store.db"
    with traffic() as port:
        options = ["-i", "lo", "-n", "-Z", "root", "-G", "1", "-W", "2", "-w", captures / "proxy_%Y%m%d_%H%M%S.pcap"]
        hook = DEPLOY / "hooks" / "tcpdump-rotated.sh"
        # Whoever waits for its output waits for the hooks, too, which may be the first to run on this machine.
        done = run(tcpdump, *options, "-z", hook, f"tcp port {port}", env=env)
    assert done.returncode == 0, done.stderr
    names = sorted(p.name for p in captures.iterdir())
    assert len(names) == 2
    # tcpdump does not wait for the hooks, and files of one series are read one after the other: one
    # that comes while the one before it is being read is left to the nightly scan.
    wait_until(lambda: n_finished(store) == 2)
    night = cli("scan", captures, "--store", store, "--settle", "0", "--no-exchanges", "--fail-on", "never")
    assert night.returncode == 0, night.stderr
    with closing(sqlite3.connect(store)) as db:
        scans = db.execute("SELECT found, read, failed FROM scans ORDER BY number").fetchall()
        files = db.execute("SELECT path, status FROM files ORDER BY path").fetchall()
    assert [found for found, _, _ in scans] == [1, 1, 2]
    assert sum(read for _, read, _ in scans) == 2
    # Which of the two hooks read first depends on how busy the machine was.
    assert sum(read for _, read, _ in scans[:2]) >= 1
    assert {failed for _, _, failed in scans} == {0}
    assert files == [(str(captures / name), "ok") for name in names]


def n_finished(store):
    """Return how many scans have ended."""
    if store.exists():
        with closing(sqlite3.connect(store, timeout=HANG_S)) as db, suppress(sqlite3.OperationalError):
            return db.execute("SELECT count(*) FROM scans WHERE state = 'finished'").fetchone()[0]
    return 0


def test_logrotate_takes_its_snippet_and_runs_what_stands_in_it(tmp_path):
    logrotate = needs("logrotate")
    (tmp_path / "captures").mkdir()
    capture(tmp_path / "captures" / "proxy.pcap")
    called = tmp_path / "called"
    (tmp_path / "systemctl").write_text(f'#!/bin/sh\necho "$*" >> {called}\n')
    (tmp_path / "systemctl").chmod(0o755)
    text = (DEPLOY / "logrotate" / "pcapdiag").read_text().replace("/var/captures", f"{tmp_path}/captures")
    (tmp_path / "snippet").write_text(text)
    (tmp_path / "snippet").chmod(0o644)
    env = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = run(logrotate, "--force", "--state", tmp_path / "state", tmp_path / "snippet", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    [rotated] = (tmp_path / "captures").iterdir()
    assert re.fullmatch(r"proxy-\d{8}\.pcap", rotated.name)
    assert called.read_text().splitlines() == ["try-restart capture.service", "start --no-block pcapdiag-scan.service"]


def test_the_page_on_nightly_scans_names_what_there_is(cli):
    page = (ROOT / "docs" / "nightly.md").read_text()
    for link in re.findall(r"\]\((\.\./deploy[^)]*|[a-z]+\.md)\)", page):
        assert (ROOT / "docs" / link).resolve().exists(), link
    known = "".join(cli(name, "--help").stdout for name in ("scan", "history", "analyze"))
    known += "--collector.textfile.directory --now"
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z.-]+", page))
    assert len(options) > 8
    assert {option for option in options if option not in known} == set()
    metrics = set(re.findall(r"pcapdiag_(\w+)", page))
    source = (ROOT / "pcapdiag" / "nightly" / "tell" / "metrics.py").read_text()
    assert all(f'"{name.removeprefix("upstream_")}"' in source for name in metrics)
