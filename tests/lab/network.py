"""Machines of the lab: network namespaces with a TAP device each, all on one hub, and the processes in them.

Everything has a name with the number of the process that made it, and goes away when the ``with`` block of `Network`
ends, however it ends; what a killed process left behind, the next run removes.
"""

import ctypes
import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.hub import Hub
from tests.waiting import HANG_S, is_alive, wait_until

PREFIX = "pdlab"
PROXY = "10.77.0.100"
UPSTREAM_TTL = 63
"""One hop farther than the firewall in the hub."""
_TUNSETIFF, _TAP_WITHOUT_HEADER = 0x400454CA, 0x1002
_CLONE_NEWNET = 0x40000000


def why_not():
    """Return why no network can be made here, or an empty string."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not Path("/dev/net/tun").exists():
        return "no /dev/net/tun: no TAP devices here"
    if shutil.which("ip") is None:
        return "ip is not installed (Debian: iproute2)"
    name = f"{PREFIX}-{os.getpid()}-try"
    done = _ip("netns", "add", name, check=False)
    if done.returncode:
        return f"no network namespaces here: {done.stderr.strip()}"
    _ip("netns", "del", name)
    return ""


def _ip(*words, check=True):
    # Two that make the folder of namespaces at once get in each other's way.
    with Path(__file__).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return subprocess.run(["ip", *words], capture_output=True, text=True, check=check, timeout=HANG_S)


def _pids_in(namespace):
    return [int(pid) for pid in _ip("netns", "pids", namespace, check=False).stdout.split()]


def _remove(namespace):
    for pid in _pids_in(namespace):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(map(is_alive, _pids_in(namespace))))
    _ip("netns", "del", namespace, check=False)


def remove_leftovers():
    """Remove namespaces, and what runs in them, of recordings whose process is gone."""
    for line in _ip("netns", "list").stdout.splitlines():
        name = line.split()[0]
        if name.startswith(f"{PREFIX}-") and not is_alive(name.split("-")[1]):
            _remove(name)


def _open_tap(name):
    file = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(file, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _TAP_WITHOUT_HEADER))
    return file


@dataclass
class Machine:
    """A namespace with one interface ``up0`` towards the hub, and its processes."""

    name: str
    address: str
    mac: bytes
    namespace: str
    processes: list[subprocess.Popen] = field(default_factory=list)

    def run(self, *words, folder, log, env=None):
        """Start a program in the foreground; what it says goes to `log` in its folder."""
        command = ["ip", "netns", "exec", self.namespace, *map(str, words)]
        with (folder / log).open("ab") as out:
            process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, "TZ": "UTC", "LC_ALL": "C.UTF-8", **(env or {})},
            )
        self.processes.append(process)
        return process

    def socket(self):
        """Return a TCP socket of this machine; a socket stays where it was made, whoever uses it."""
        made = []

        def make():
            libc = ctypes.CDLL(None, use_errno=True)
            with Path(f"/run/netns/{self.namespace}").open() as namespace:
                if libc.setns(namespace.fileno(), _CLONE_NEWNET):
                    return
            made.append(socket.socket())

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        if not made:
            message = f"cannot enter {self.namespace}"
            raise OSError(message)
        return made[0]

    def wait_for_port(self, port, address="127.0.0.1"):
        """Wait until something listens there; loopback, so that the capture does not show it."""

        def is_open():
            for process in self.processes:
                assert process.poll() is None, f"{process.args} ended with {process.returncode}"
            with self.socket() as probe:
                return probe.connect_ex((address, port)) == 0

        wait_until(is_open)


@dataclass
class Network:
    """A proxy and its upstreams around a hub."""

    hub: Hub
    n_upstreams: int
    machines: dict[str, Machine] = field(default_factory=dict)

    def __enter__(self):
        """Make all machines and begin to carry frames."""
        with ExitStack() as undo:
            undo.callback(self.hub.close)
            names = ["proxy", *(f"upstream_{'abcdefgh'[i]}" for i in range(self.n_upstreams))]
            for number, name in enumerate(names):
                address = PROXY if number == 0 else f"10.77.0.{number}"
                mac = bytes.fromhex(f"02000a4d00{number:02x}")
                machine = Machine(name, address, mac, f"{PREFIX}-{os.getpid()}-{name}")
                self.machines[name] = machine
                undo.callback(_end, machine)
                self._plug_in(machine, number)
            for machine in self.machines.values():
                for other in self.machines.values():
                    if other is not machine:
                        neighbour = (other.address, "lladdr", other.mac.hex(":"), "dev", "up0")
                        _ip("-n", machine.namespace, "neigh", "replace", *neighbour)
            self.hub.start()
            undo.callback(self.hub.stop)
            self._undo = undo.pop_all()
        return self

    def _plug_in(self, machine, number):
        _ip("netns", "add", machine.namespace)
        device = f"pl{os.getpid()}n{number}"
        self.hub.plug(_open_tap(device), machine.mac, is_proxy=number == 0)
        _ip("link", "set", device, "netns", machine.namespace, "name", "up0", "address", machine.mac.hex(":"))
        settings = {"ipv6/conf/all/disable_ipv6": 1, **({"ipv4/ip_default_ttl": UPSTREAM_TTL} if number else {})}
        for name, value in settings.items():
            script = f"test ! -e /proc/sys/net/{name} || echo {value} > /proc/sys/net/{name}"
            _ip("netns", "exec", machine.namespace, "sh", "-c", script)
        _ip("-n", machine.namespace, "addr", "add", f"{machine.address}/24", "dev", "up0")
        for interface in ("lo", "up0"):
            _ip("-n", machine.namespace, "link", "set", interface, "up")

    def __exit__(self, *exception):
        """End every process in the namespaces, and the namespaces."""
        return self._undo.__exit__(*exception)


def _end(machine):
    _remove(machine.namespace)
    for process in machine.processes:
        process.wait(HANG_S)
