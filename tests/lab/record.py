"""Play scenarios of the lab and keep what was recorded: ``python -m tests.lab.record idle_race --into FOLDER``.

It wants root. A scenario's folder gets what a case of captures/ has (captures, the proxy's logs and configuration), and
the ground truth: the client's record, the upstreams' own logs, and what was done when. Without names, all are recorded,
several at a time. ``--cases`` makes cases of them, ``--show`` prints what pcapdiag says.
"""

import argparse
import importlib.util
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from tests.lab.case import write_case
from tests.lab.client import Client
from tests.lab.hub import Hub
from tests.lab.network import Network, remove_leftovers, why_not
from tests.lab.scenarios import ON_A_QUIET_MACHINE, OTHER_PROXIES
from tests.lab.scenarios import SCENARIOS as OF_NGINX
from tests.lab.stage import Stage
from tests.waiting import HANG_S, wait_until

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = OF_NGINX | OTHER_PROXIES | ON_A_QUIET_MACHINE
AT_ONCE = 8
"""Recordings at a time: most of what they do is to wait."""
ALWAYS = ("nginx", "tcpdump", "tshark")


def missing(scenario):
    """Return what a scenario needs and is not installed."""
    wanted = [*ALWAYS, *scenario.proxy.needs, *(need for upstream in scenario.upstreams for need in upstream.needs)]
    return sorted({n for n in wanted if shutil.which(n) is None and importlib.util.find_spec(n) is None})


def _start_capture(machine, folder, name):
    # The kernel keeps a slot of the snap length for each frame: with this one, room for all of a recording.
    options = ("-i", "up0", "-n", "-U", "--immediate-mode", "-s", "1600", "-B", "16384", "-Z", "root", "-w", name)
    process = machine.run("tcpdump", *options, "tcp or icmp", folder=folder, log=f"{name}.log")

    def is_listening():
        said = (folder / f"{name}.log").read_text()
        assert process.poll() is None, said
        return "listening on" in said

    wait_until(is_listening)
    return machine, process, folder / name


def n_records(capture):
    """Return how many whole records a pcap file of tcpdump has."""
    data, at, n = capture.read_bytes(), 24, 0
    while at + 16 <= len(data):
        at += 16 + int.from_bytes(data[at + 8 : at + 12], sys.byteorder)
        n += at <= len(data)
    return n


def _stop_capture(hub, machine, process, capture):
    # tcpdump is late on a busy machine; it has all when it has what the hub carried so far.
    n_carried = hub.ports[machine.mac].n_captured
    wait_until(lambda: n_records(capture) >= n_carried)
    process.send_signal(signal.SIGINT)
    process.wait(HANG_S)
    machine.processes.remove(process)
    return n_carried


def _play(name, scenario, folder):
    hub = Hub(scenario.to_upstream, scenario.to_proxy, scenario.seed)
    with Network(hub, len(scenario.upstreams)) as network:
        proxy, *machines = network.machines.values()
        upstreams = list(zip(machines, scenario.upstreams, strict=True))
        stage = Stage(Client(proxy, name), hub, folder, upstreams, logs_tries=scenario.proxy.logs_tries)
        for machine, upstream in upstreams:
            (folder / machine.name).mkdir()
            stage.processes.append(upstream.start(machine, folder / machine.name))
        scenario.proxy.start(proxy, folder, [machine.address for machine in machines])
        captures = [_start_capture(machine, folder, f"{key}.pcap") for key, machine in network.machines.items()]
        try:
            scenario.plan(stage)
        finally:
            # What came instead of the plan is the more interesting the less was expected.
            stage.settle()
            n_carried = [_stop_capture(hub, *capture) for capture in captures]
            _write_truth(name, scenario, stage, n_carried[0])


def _write_truth(name, scenario, stage, n_carried):
    answers = [json.dumps(answer._asdict()) for answer in stage.client.answers]
    (stage.folder / "client.jsonl").write_text("".join(f"{line}\n" for line in answers))
    meta = {
        "name": name,
        "title": scenario.title,
        "seed": scenario.seed,
        "upstreams": [upstream.name for _, upstream in stage.upstreams],
        "events": stage.events,
        "frames_at_proxy": n_carried,
        "frames_lost": stage.hub.n_lost,
    }
    (stage.folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")


def record(name, target, *, keepalive_timeout=""):
    """Play a scenario and keep what was recorded in `target`, which is made; nothing else is left behind."""
    scenario = SCENARIOS[name]
    if keepalive_timeout:
        scenario = replace(scenario, proxy=replace(scenario.proxy, keepalive_timeout=keepalive_timeout))
    with tempfile.TemporaryDirectory(prefix="pcapdiag-lab-") as folder:
        played = Path(folder)
        try:
            _play(name, scenario, played)
        finally:
            skipped = shutil.ignore_patterns("tmp_*", "*.pid", "key.pem", "*.php", "*.html")
            shutil.copytree(played, target, ignore=skipped, dirs_exist_ok=True)


def record_apart(name, folder, *options):
    """Record a scenario in a process of its own, into a folder of its name; raise with what it said if it failed."""
    command = [sys.executable, "-m", "tests.lab.record", name, "--into", str(folder), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=HANG_S)
    if done.returncode:
        message = f"{name}: exit code {done.returncode}: {done.stderr}"
        raise RuntimeError(message)
    return folder / name


def record_together(names, folder, *options):
    """Return a pool and, by name, the futures of recordings; what takes longest begins first."""
    pool = ThreadPoolExecutor(AT_ONCE)
    return pool, {name: pool.submit(record_apart, name, folder, *options) for name in names}


def show(folder):
    """Print what pcapdiag says of a recording."""
    given = ("--error-log", folder / "error.log", "--access-log", folder / "access.log")
    command = (sys.executable, "-m", "pcapdiag", "analyze", folder / "proxy.pcap", *given)
    subprocess.run([*command, "--proxy-conf", folder / "nginx.conf", "--fail-on", "never"], cwd=ROOT, check=True)


def main():
    """Record one scenario in this process, or several in processes of their own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--into", type=Path, default=Path("lab-recordings"), metavar="FOLDER")
    parser.add_argument("--cases", action="store_true", help="write case.toml and README.md beside what was recorded")
    parser.add_argument("--show", action="store_true", help="print what pcapdiag says")
    parser.add_argument("--keepalive-timeout", default="", help="of the proxy, other than the scenario's")
    arguments = parser.parse_args()
    names = arguments.names or list(OF_NGINX)
    if unknown := set(names) - set(SCENARIOS):
        parser.error(f"no scenario {', '.join(sorted(unknown))}; there are: {', '.join(SCENARIOS)}")
    if (arguments.cases or arguments.show) and OTHER_PROXIES.keys() & set(names):
        parser.error(f"cases and reports are made of scenarios with nginx only, not of {', '.join(OTHER_PROXIES)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if reason := why_not():
        parser.exit(2, f"the lab cannot run: {reason}\n")
    if absent := sorted({program for name in names for program in missing(SCENARIOS[name])}):
        parser.exit(2, f"the lab cannot run: not installed: {', '.join(absent)}\n")
    if len(names) == 1:
        remove_leftovers()
        record(names[0], arguments.into / names[0], keepalive_timeout=arguments.keepalive_timeout)
    else:
        pool, futures = record_together(names, arguments.into)
        with pool:
            for future in futures.values():
                print(future.result())
    for name in names:
        if arguments.cases:
            write_case(name, SCENARIOS[name], arguments.into / name)
        if arguments.show:
            show(arguments.into / name)


if __name__ == "__main__":
    main()
