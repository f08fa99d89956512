"""Measure whole processes side by side, and print a Markdown table of medians, ratios and peak memory.

Every round runs each tool once, so that a slow moment of the machine meets all of them. The answers are checked against
what the generator says is in the capture: a fast wrong answer is not a result. Imports nothing heavy, because a child's
peak memory is at least that of the process that started it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PCAPDIAG = (sys.executable, "-m", "pcapdiag")
EXCHANGE_FIELDS = (
    "frame.number", "frame.time_epoch", "tcp.stream", "tcp.flags", "http.request.method", "http.request.uri",
    "http.response.code", "http.request_in", "http.time",
)  # fmt: skip
LATENCY_RUNS = 10


@dataclass(frozen=True)
class Run:
    """What one process took."""

    seconds: float
    peak_mb: float
    exit_code: int


@dataclass(frozen=True)
class Case:
    """One tool: what it gives, how it is started (the capture's path follows) and how its answer is checked.

    `module` is the Python module it needs, if that is not ours.
    """

    name: str
    gives: str
    command: tuple[str, ...]
    check: Callable[[Path, dict], None] | None = None
    module: str = ""
    exit_codes: tuple[int, ...] = (0,)
    discard: bool = False

    def is_here(self) -> bool:
        """Whether the tool is installed."""
        return shutil.which(self.command[0]) is not None and (not self.module or find_spec(self.module) is not None)


def expect(what: str, got: object, wanted: object) -> None:
    if got != wanted:
        msg = f"wrong answer, {what}: {got}, the capture holds {wanted}"
        raise SystemExit(msg)


def check_report(output: Path, truth: dict) -> None:
    report = json.loads(output.read_bytes())
    for name in ("frames", "connections", "exchanges", "unanswered"):
        expect(f"pcapdiag's {name}", report["totals"][name], truth[name])
    lost = [o["request_frame"] for f in report["findings"] if f["code"] == "PD101" for o in f["occurrences"]]
    expect("pcapdiag's raced requests", sorted(lost), [race["request_frame"] for race in truth["races"]])


def check_exchange_table(output: Path, truth: dict) -> None:
    requests = responses = 0
    with output.open() as stream:
        for line in stream:
            fields = line.rstrip("\n").split("\t")
            requests += bool(fields[4])
            responses += bool(fields[6])
    expect("tshark's requests", requests, truth["exchanges"])
    expect("tshark's responses", responses, truth["exchanges"] - truth["unanswered"])


# The filter passes what an exchange table with idle gaps and closings needs: heads, ends of responses, FIN and RST.
CASES = (
    Case("pcapdiag", "exchanges, idle gaps, causes", (*PCAPDIAG, "analyze", "--format", "json"), check_report,
         exit_codes=(0, 1)),
    Case("tshark", "exchanges, times", (
        "tshark", "-n", "-T", "fields", *(a for field in EXCHANGE_FIELDS for a in ("-e", field)),
        "-Y", "http or tcp.flags.fin == 1 or tcp.flags.reset == 1", "-r"), check_exchange_table),
    Case("dpkt loop", "decoded headers only", (sys.executable, str(HERE / "dpkt_loop.py")), module="dpkt"),
    Case("nfstream", "flows", (sys.executable, str(HERE / "nfstream_flows.py")), module="nfstream"),
    Case("tcptrace", "connections, from headers only", ("tcptrace", "-n")),
    Case("cat", "the bytes", ("cat",), discard=True),
)  # fmt: skip


def run(command: tuple[str, ...], output: Path | str, env: dict[str, str] | None = None) -> Run:
    """Run a process to its end; its standard output goes to a file.

    The peak memory is that of the largest single process of those it waited for.
    """
    with Path(output).open("wb") as sink, tempfile.TemporaryFile() as errors:
        start = perf_counter()
        process = subprocess.Popen(command, stdout=sink, stderr=errors, cwd=ROOT, env=env or ENVIRONMENT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
        if process.returncode not in {0, 1}:
            errors.seek(0)
            sys.stderr.write(errors.read().decode(errors="replace")[-2000:])
    return Run(seconds, usage.ru_maxrss * unit / 1e6, process.returncode)


def run_case(case: Case, capture: Path, truth: dict, data: Path) -> Run:
    output = os.devnull if case.discard else data / f"{case.name.replace(' ', '-')}.out"
    result = run((*case.command, str(capture)), output)
    if result.exit_code not in case.exit_codes:
        msg = f"{case.name} ended with exit code {result.exit_code}"
        raise SystemExit(msg)
    if case.check:
        case.check(Path(output), truth)
    return result


def make_capture(path: Path, *arguments: str) -> dict:
    """Generate a capture unless the same generator made it before; return what is in it."""
    key = " ".join(arguments) + "".join(str((HERE / n).stat().st_mtime_ns) for n in ("generate.py", "wire.py"))
    stamp = path.with_suffix(".stamp")
    if not (path.exists() and stamp.exists() and stamp.read_text() == key):
        say(f"generating {path.name}")
        subprocess.run([sys.executable, str(HERE / "generate.py"), str(path), *arguments], check=True, env=ENVIRONMENT)
        stamp.write_text(key)
    return json.loads(path.with_suffix(".json").read_text())


def warm_page_cache(path: Path) -> None:
    with path.open("rb", buffering=0) as stream:
        while stream.read(1 << 20):
            pass


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def describe_machine() -> str:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return f"{model}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    marks = ("---", *("---:" for _ in header[1:]))
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, marks, *rows))


def compare_tools(data: Path, connections: int, n_run: int, names: list[str]) -> tuple[str, dict[str, float]]:
    """Run every tool `n_run` times on the capture; return the table, and the medians in seconds."""
    capture = data / "bench.pcap"
    truth = make_capture(capture, "--connections", str(connections))
    warm_page_cache(capture)
    cases = [c for c in CASES if not names or c.name in names]
    missing = [c.name for c in cases if not c.is_here()]
    cases = [c for c in cases if c.is_here()]
    results: dict[str, list[Run]] = {c.name: [] for c in cases}
    for n in range(n_run + 1):
        for case in cases:
            if n == 0 and case.name != "pcapdiag":
                continue  # round 0 only compiles the kernels
            result = run_case(case, capture, truth, data)
            say(f"round {n}: {case.name} {result.seconds:.2f} s, {result.peak_mb:.0f} MB")
            if n:
                results[case.name].append(result)
    medians = {name: median(r.seconds for r in runs) for name, runs in results.items()}
    own = medians.get("pcapdiag")
    rows = [
        (
            case.name,
            case.gives,
            f"{medians[case.name]:.2f}",
            f"{min(r.seconds for r in results[case.name]):.2f}-{max(r.seconds for r in results[case.name]):.2f}",
            f"{max(r.peak_mb for r in results[case.name]):.0f}",
            f"{medians[case.name] / own:.2f}" if own else "",
        )
        for case in cases
    ]
    text = (
        f"{truth['bytes'] / 1e9:.2f} GB, {truth['frames']} frames, {truth['connections']} connections, "
        f"{truth['exchanges']} exchanges; {n_run} rounds.\n\n"
    ) + table(("tool", "gives", "median s", "range s", "peak MB", "times pcapdiag"), rows)
    if missing:
        text += f"\n\nNot installed, so not measured: {', '.join(missing)}."
    return text, medians


def measure_latency(data: Path) -> tuple[str, float]:
    """Measure start-up; return the table, and the median in seconds of a small capture."""
    capture = data / "small.pcap"
    truth = make_capture(capture, "--connections", "1", "--races", "1", "--seed", "4")
    case = CASES[0]
    run_case(case, capture, truth, data)
    warm = [run_case(case, capture, truth, data).seconds for _ in range(LATENCY_RUNS)]
    usage = [run((*PCAPDIAG, "--help"), os.devnull).seconds for _ in range(LATENCY_RUNS)]
    rows = [
        (f"analyze, {truth['bytes'] / 1e3:.0f} kB", f"{median(warm):.3f}"),
        ("--help", f"{median(usage):.3f}"),
    ]
    return table(("start-up", "median s"), rows), median(warm)


def measure_growth(data: Path, connections: int) -> str:
    """Compare a capture with one four times as long."""
    rows = []
    for scale, name in ((1, "bench"), (4, "bench4")):
        capture = data / f"{name}.pcap"
        arguments = ("--connections", str(connections), *(("--scale", str(scale)) if scale > 1 else ()))
        truth = make_capture(capture, *arguments)
        warm_page_cache(capture)
        result = run_case(CASES[0], capture, truth, data)
        rows.append((f"{truth['bytes'] / 1e9:.2f} GB", f"{result.seconds:.2f}", f"{result.peak_mb:.0f}"))
    growth = float(rows[1][2]) / float(rows[0][2]) - 1
    return table(("capture", "s", "peak MB"), rows) + f"\n\nFour times as long takes {growth:+.1%} memory."


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure pcapdiag and other tools side by side.")
    parser.add_argument("--runs", type=int, default=5, help="rounds [%(default)s]")
    parser.add_argument("--connections", type=int, default=16_000, help="size of the capture [%(default)s]")
    parser.add_argument("--tool", action="append", default=[], choices=[c.name for c in CASES], help="only these")
    parser.add_argument(
        "--part", action="append", default=[], choices=["tools", "latency", "growth"], help="only these"
    )
    parser.add_argument("--data", type=Path, default=HERE / "data", help="where captures are kept")
    options = parser.parse_args()
    options.data.mkdir(parents=True, exist_ok=True)
    parts = options.part or ["latency", "tools", "growth"]
    print(describe_machine())
    start_up = None
    if "latency" in parts:
        text, start_up = measure_latency(options.data)
        print(f"\n{text}", flush=True)
    if "tools" in parts:
        text, medians = compare_tools(options.data, options.connections, options.runs, options.tool)
        print(f"\n{text}", flush=True)
        if start_up and "pcapdiag" in medians:
            rate = (options.data / "bench.pcap").stat().st_size / (medians["pcapdiag"] - start_up) / 1e9
            print(f"\nAfter start-up, pcapdiag reads {rate:.2f} GB/s.")
    if "growth" in parts:
        print(f"\n{measure_growth(options.data, options.connections)}", flush=True)


ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith(("PCAPDIAG_", "NUMBA_"))}
ENVIRONMENT["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])

if __name__ == "__main__":
    main()
