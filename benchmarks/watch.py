"""An hour at the flight recorder: generated traffic and the lab's incidents through one live pipe, at their own pace.

``python benchmarks/watch.py DATA --lab FOLDER`` writes the generated capture into the folder DATA, unless it is there,
then feeds ``pcapdiag watch -`` for an hour of the clock. The lab's incidents begin one after the other, each between
addresses of its own, and their error logs grow beside. It prints a line every minute, and in the end what was recorded
of what an analysis of the whole captures finds. Nothing is sped up: a minute takes a minute.
"""

import argparse
import heapq
import json
import os
import re
import resource
import struct
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from generate import generate

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import pcapdiag  # noqa: E402 - from this checkout, installed or not

CONNECTIONS_PER_MINUTE = 1500
RACES_PER_MINUTE = 2.4
TICK_S = 0.02
SAMPLE_S = 10
NETWORK = re.compile(rb"\x0a\x01\x01(?=[\x01-\x03\x64])")
S = 1_000_000_000


def read_pcap(path):
    """Yield the link type, then (time in ns, captured length, length, bytes) of a little-endian pcap's records."""
    with path.open("rb") as file:
        head = file.read(24)
        unit = {0xA1B2C3D4: 1000, 0xA1B23C4D: 1}[struct.unpack_from("<I", head)[0]]
        yield struct.unpack_from("<I", head, 20)[0]
        while len(record := file.read(16)) == 16:
            seconds, fraction, n_captured, n_bytes = struct.unpack("<4I", record)
            yield seconds * S + fraction * unit, n_bytes, file.read(n_captured)


def move_capture(source, target, number):
    """Copy a lab capture, its network 10.1.1 replaced by one of its own."""
    data = source.read_bytes()
    parts, at = [data[:24]], 24
    while at < len(data):
        n_bytes = struct.unpack_from("<I", data, at + 8)[0]
        frame = data[at + 16 : at + 16 + n_bytes]
        parts += (data[at : at + 16], NETWORK.sub(bytes((10, 100 + number, 1)), frame[:80]), frame[80:])
        at += 16 + n_bytes
    target.write_bytes(b"".join(parts))


def read_log(path):
    """Yield (time in ns, line) of an error log in UTC; a line is written half a second after the second it names."""
    now_ns = 0
    for line in path.read_bytes().splitlines(keepends=True):
        with suppress(ValueError):  # a line that continues the one before
            stamp = datetime.strptime(line[:19].decode(), "%Y/%m/%d %H:%M:%S").replace(tzinfo=UTC)
            now_ns = int(stamp.timestamp()) * S
        yield now_ns + S // 2, line


def failures_of(report, shift_ns=0):
    """Return the codes of every failure in a report, by connection and time."""
    found = {}
    for finding in report["findings"]:
        for o in finding["occurrences"] if finding["severity"] != "info" else ():
            found.setdefault((o["orig"], o["resp"], o["request_ts_ns"] + shift_ns), set()).add(finding["code"])
    return found


def block(kind, body):
    """Return a pcapng block."""
    body += bytes(-len(body) % 4)
    total = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + total + body + total


class Hour:
    """What is played: captures and logs as events in the order of their times."""

    def __init__(self):
        self.link_types = []
        self.tracks = []
        self.wanted = {}
        self.n_scenarios = 0

    def add_capture(self, path, shift_ns):
        """Play a capture, so much later than it was taken."""
        records = read_pcap(path)
        link_type = next(records)
        if link_type not in self.link_types:
            self.link_types.append(link_type)
        interface = self.link_types.index(link_type)

        def events():
            for ts_ns, n_bytes, frame in records:
                now_ns = ts_ns + shift_ns
                head = struct.pack("<5I", interface, now_ns >> 32, now_ns & 0xFFFFFFFF, len(frame), n_bytes)
                yield now_ns, True, block(6, head + frame)

        self.tracks.append(events())

    def add_log(self, path, shift_ns):
        """Let an error log grow beside."""

        def events():
            for now_ns, line in read_log(path):
                moved = datetime.fromtimestamp((now_ns + shift_ns) // S, UTC)
                stamp = f"{moved:%Y/%m/%d %H:%M:%S}".encode()
                yield now_ns + shift_ns, False, stamp + line[19:] if line[4:5] == b"/" else line

        self.tracks.append(events())

    def header(self):
        """Return the beginning of a pcapng with an interface for each link type."""
        head = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
        resolution = struct.pack("<HHB3xI", 9, 1, 9, 0)
        return head + b"".join(block(1, struct.pack("<HHI", kind, 0, 0) + resolution) for kind in self.link_types)

    def play(self, pipe, log, *, speed):
        """Write every event when its time comes; return how far this was behind at worst [s]."""
        worst_s, frames, first_ns, begun = 0.0, [], 0, 0.0
        for now_ns, is_frame, data in heapq.merge(*self.tracks, key=lambda event: event[0]):
            if not first_ns:
                first_ns, begun = now_ns, time.monotonic()
            ahead_s = (now_ns - first_ns) / S / speed - (time.monotonic() - begun)
            if ahead_s > TICK_S:
                pipe.write(b"".join(frames))
                pipe.flush()
                frames.clear()
                time.sleep(ahead_s)
            worst_s = max(worst_s, -ahead_s)
            if is_frame:
                frames.append(data)
            else:
                log.write(data)
        pipe.write(b"".join(frames))
        return worst_s


def make_hour(options, work):
    """Return what is to be played, from now on."""
    hour = Hour()
    big = options.data / f"traffic-{options.minutes}.pcap"
    if not big.exists():
        big.parent.mkdir(parents=True, exist_ok=True)
        races = round(options.minutes * RACES_PER_MINUTE)
        generate(big, connections=options.minutes * CONNECTIONS_PER_MINUTE, races=races, seed=1)
    analyses = [(big, pcapdiag.analyze(big).to_json())]
    scenarios = [path.parent for path in sorted(options.lab.glob("*/proxy.pcap"))]
    for number, scenario in enumerate(scenarios):
        capture, log = work / f"{number}.pcap", work / f"{number}.log"
        move_capture(scenario / "proxy.pcap", capture, number)
        text = (scenario / "proxy" / "error.log").read_bytes()
        log.write_bytes(text.replace(b"10.1.1.", f"10.{100 + number}.1.".encode()))
        analyses.append((capture, pcapdiag.analyze(capture, error_logs=[log]).to_json()))
    hour.n_scenarios = len(scenarios)
    slot_s = (options.minutes * 60 - 150) / max(1, len(scenarios) - 1)
    start_s = int(time.time()) + 5
    for number, (capture, report) in enumerate(analyses):
        records = read_pcap(capture)
        next(records)
        # Whole seconds: the log knows no others.
        shift_ns = (start_s + int(max(0, number - 1) * slot_s) - next(records)[0] // S) * S
        hour.wanted |= {key: (number, codes) for key, codes in failures_of(report, shift_ns).items()}
        hour.add_capture(capture, shift_ns)
        if number:
            hour.add_log(capture.with_suffix(".log"), shift_ns)
    return hour


def rss_kb(pid):
    with suppress(OSError, StopIteration):  # it may have ended
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
    return 0


def size_of(folder):
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # the ring goes on
                total += os.lstat(Path(place) / name).st_size
    return total


def watch_memory(pid, out, samples, done):
    """Note memory [kB] and disk [bytes] of the recorder until it is done."""
    while not done.wait(SAMPLE_S):
        children = Path(f"/proc/{pid}/task/{pid}/children")
        jobs = children.read_text().split() if children.exists() else []
        samples.append((rss_kb(pid), max(map(rss_kb, jobs), default=0), size_of(out / ".watch" / "ring"), size_of(out)))
        if len(samples) % (60 // SAMPLE_S) == 0:
            rss, job, ring, disk = samples[-1]
            n = sum(1 for _ in out.glob("*/report.json"))
            text = f"minute {len(samples) * SAMPLE_S // 60}: {rss / 1024:.0f} MiB, its report {job / 1024:.0f} MiB, "
            print(text + f"ring {ring >> 20} MiB, disk {disk >> 20} MiB, {n} incidents", flush=True)


def tell(hour, out, samples):
    """Print what was recorded and what it took."""
    found = {}
    delays = []
    for path in sorted(out.glob("*/report.json")):
        failures = failures_of(json.loads(path.read_bytes()))
        new = [key for key in failures if key not in found]
        delays += [path.stat().st_mtime - max(key[2] for key in new) / S] if new else []
        for key, codes in failures.items():
            found.setdefault(key, set()).update(codes)
    missing = {key: codes - found.get(key, set()) for key, (_, codes) in hour.wanted.items()}
    missing = {key: codes for key, codes in missing.items() if codes}
    own = [key for key, (number, _) in hour.wanted.items() if number == 0]
    lab = [key for key, (number, _) in hour.wanted.items() if number]
    print(f"generated traffic: {sum(k not in missing for k in own)} of {len(own)} failures recorded with their codes")
    print(f"lab, {hour.n_scenarios} scenarios: {sum(k not in missing for k in lab)} of {len(lab)}")
    for key, codes in sorted(missing.items()):
        print(f"  missing: scenario {hour.wanted[key][0]} {key} {codes}; recorded as {found.get(key)}")
    extra = {key: codes for key, codes in found.items() if codes - hour.wanted.get(key, (0, set()))[1]}
    print(f"recorded beyond that: {len(extra)}")
    for key, codes in sorted(extra.items())[:20]:
        print(f"  {key} {codes}")
    if delays:
        print(f"from the last failure of an incident to its report: {min(delays):.0f} to {max(delays):.0f} s")
    rss, jobs, rings, disks = zip(*samples, strict=True)
    settled = rss[len(rss) // 6 :]
    print(f"recorder: {min(settled) / 1024:.0f} to {max(settled) / 1024:.0f} MiB after the first sixth of the time")
    print(f"its reports' process: at most {max(jobs) / 1024:.0f} MiB")
    print(f"disk: ring at most {max(rings) >> 20} MiB, all at most {max(disks) >> 20} MiB")
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"CPU of the recorder and its reports: {usage.ru_utime + usage.ru_stime:.0f} s")


def main():
    parser = argparse.ArgumentParser(description="Watch generated traffic and the lab's incidents for an hour.")
    parser.add_argument("data", type=Path)
    parser.add_argument("--lab", type=Path, default=ROOT.parent / "shared" / "captures" / "lab")
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--ring", default="512MB")
    parser.add_argument("--speed", type=float, default=1.0, help="for trying this program out")
    parser.add_argument("--keep", type=Path, help="an empty folder to record into, which stays")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.data, prefix="watch-") as folder:
        work = options.keep or Path(folder)
        out, log = work / "out", work / "error.log"
        log.touch()
        hour = make_hour(options, work)
        command = [sys.executable, "-m", "pcapdiag", "watch", "-", "--out", str(out), "--error-log", str(log)]
        command += ["--ring", options.ring, "--keep", "10000", "--keep", "10GB"]
        samples, done = [], threading.Event()
        with (
            (work / "lines").open("wb") as lines,
            (options.data / "watch.log").open("wb") as errors,
            log.open("ab", buffering=0) as log_file,
        ):
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            recorder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=lines, stderr=errors, env=environment)
            sampler = threading.Thread(target=watch_memory, args=(recorder.pid, out, samples, done))
            sampler.start()
            with recorder.stdin as pipe:
                pipe.write(hour.header())
                behind_s = hour.play(pipe, log_file, speed=options.speed)
            code = recorder.wait(600)
            done.set()
            sampler.join()
        print(f"exit code {code}; this program was at most {behind_s:.1f} s behind")
        tell(hour, out, samples)


if __name__ == "__main__":
    main()
