"""Measure the HTML report of a generated incident: how large it is, and how long it takes to make from the analysis.

    .venv/bin/python benchmarks/page.py [--connections 440] [--races 200]

By default an incident of about 10,000 exchanges with 200 lost requests. The bounds are 1.5 MB and 3 s; the first
rendering of a process pays for the start of the drawing engine, so each round is a process of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
ROUND = """
import sys, time, pcapdiag
result = pcapdiag.analyze(sys.argv[1])
begin = time.perf_counter()
page = result.to_html().encode()
print(time.perf_counter() - begin, len(page), result.report.totals.exchanges, result.report.totals.unanswered)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--connections", type=int, default=440)
    parser.add_argument("--races", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        capture = str(Path(folder) / "incident.pcap")
        size = ["--connections", str(arguments.connections), "--races", str(arguments.races)]
        subprocess.run(
            [sys.executable, str(HERE / "generate.py"), *size, capture], check=True, stdout=subprocess.DEVNULL
        )
        rounds = [measure(capture) for _ in range(arguments.rounds)]
    seconds, n_bytes = median(r[0] for r in rounds), int(rounds[0][1])
    print(f"{int(rounds[0][2]):,} exchanges, {int(rounds[0][3]):,} lost: {n_bytes / 1e6:.2f} MB in {seconds:.2f} s")


def measure(capture: str) -> list[float]:
    done = subprocess.run([sys.executable, "-c", ROUND, capture], check=True, capture_output=True, text=True)
    return [float(number) for number in done.stdout.split()]


if __name__ == "__main__":
    main()
