"""``python -m tests.world FOLDER``: every capture below a folder, read by pcapdiag and by tshark.

Says what went wrong with pcapdiag (it raised, hung, or wanted more memory than it may have), how many connections and
HTTP messages both see, and of each difference why: by a rule of `reasons.py`, by a row of the table, or not explained.
Leaves with 1 if anything went wrong or less than 99.5 % of connections or of messages agree or are explained.
"""

import argparse
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from pcapdiag.base.errors import CaptureError
from pcapdiag.engine.capture.series import begins_like_capture, is_capture_name
from tests.world import shark
from tests.world.engine import MEMORY_BYTES
from tests.world.reasons import judge
from tests.world.table import TABLE, as_row, read_table, settle

ENOUGH = 0.995
COUNTED = ("connections", "requests", "responses")


def find_captures(folder):
    """Return the files below a folder that begin like a capture or are named like one, in the order of their names."""
    found = []
    for path in sorted(Path(folder).rglob("*")):
        if path.is_file() and path.stat().st_size:
            try:
                is_capture = begins_like_capture(str(path))
            except CaptureError:  # what cannot even be unpacked is told of by the analysis, if it is named like one
                is_capture = False
            if is_capture or is_capture_name(path.name):
                found.append(path)
    return found


class Tally:
    """Adds up what was found in captures, one after the other."""

    def __init__(self, table):
        self._table = table
        self._used, self._seen = set(), set()
        self.most_kib = 0
        self.wrong, self.complaints = [], []
        self.agree, self.all, self.explained = Counter(), Counter(), Counter()
        self.classes = Counter()
        self.unexplained = []

    def add(self, name, judged):
        """Add one capture; return the lines that tell of its differences."""
        self._seen.add(name)
        self.most_kib = max(self.most_kib, judged.outcome.most_kib)
        if judged.outcome.wrong:
            self.wrong.append(f"{name}: {judged.outcome.wrong}")
        if judged.complaint:
            self.complaints.append(f"{name}: {judged.complaint}")
        for what, (both, either) in judged.counts.items():
            self.agree[what] += both
            self.all[what] += either
        left, lines = Counter(), []
        for difference, reason in judged.reasons:
            if reason:
                self._settle(difference.what, difference.n, reason)
                lines.append(f"{name} | {difference.what} | {difference.side} +{difference.n} | {reason}")
            else:
                left[difference.what, difference.side] += difference.n
        for what, ours, theirs, row in settle(self._table.get(name, {}), left):
            if row:
                self._used.add((name, what))
            if row and row.is_explained:
                self._settle(what, ours + theirs, row.reason_class)
                lines.append(f"{name} | {what} | ours +{ours} tshark +{theirs} | {row.reason_class}: {row.reason}")
            else:
                self.unexplained.append(as_row(name, what, ours, theirs, row))
        return lines

    def _settle(self, what, n, reason):
        self.explained[what] += n
        self.classes[what, reason] += n

    @property
    def stale(self):
        """The rows, as (capture, what), that are no difference any more."""
        rows = {(name, what) for name in self._seen for what in self._table.get(name, ())}
        return sorted(rows - self._used)

    def shares(self):
        """Return {connections or messages: share that agrees or is explained}."""
        parts = {"connections": ("connections",), "messages": ("requests", "responses")}
        shares = {}
        for name, whats in parts.items():
            total = sum(self.all[what] for what in whats)
            shares[name] = sum(self.agree[w] + self.explained[w] for w in whats) / total if total else 1.0
        return shares

    def tell(self):
        """Yield the lines of the summary."""
        yield f"{len(self._seen)} captures; most memory {self.most_kib / 1024:.0f} MiB of {MEMORY_BYTES >> 20} allowed"
        yield from (f"WRONG {line}" for line in self.wrong)
        yield from (f"tshark says of {line}" for line in self.complaints)
        for what in COUNTED:
            both, total, explained = self.agree[what], self.all[what], self.explained[what]
            yield f"{what}: {total}, both {both}, explained {explained}, not explained {total - both - explained}"
        for (what, reason), n in sorted(self.classes.items(), key=lambda item: (item[0][0], -item[1])):
            yield f"  {what} {n}: {reason}"
        yield from (f"NOT EXPLAINED {line}" for line in self.unexplained)
        yield from (f"NO DIFFERENCE {name} {what}" for name, what in self.stale)
        for name, share in self.shares().items():
            yield f"{name}: {100 * share:.3f} % agree or are explained"

    @property
    def is_good(self):
        """Whether nothing went wrong, enough is explained, and the table has no more rows than it needs."""
        return not self.wrong and not self.stale and min(self.shares().values()) >= ENOUGH


def run(folder, table, *, jobs=1, is_quiet=True):
    """Judge all captures below a folder, `jobs` at a time; return the Tally."""
    folder, tally = Path(folder), Tally(read_table(table))
    captures = find_captures(folder)
    # Spawned, and free of threads: each forks for every capture.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for path, judged in zip(captures, pool.map(judge, captures, chunksize=4), strict=True):
            lines = tally.add(str(path.relative_to(folder)), judged)
            if not is_quiet:
                print(*lines, sep="\n", end="\n" if lines else "", flush=True)
    return tally


def main(arguments=None):
    """Read the command line, and print what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.world", description="pcapdiag beside tshark over a folder.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--jobs", type=int, default=2, help="captures at a time [%(default)s]")
    parser.add_argument("--table", type=Path, default=TABLE, help="differences that were read frame by frame")
    parser.add_argument("--quiet", action="store_true", help="the summary alone")
    options = parser.parse_args(arguments)
    if not shark.is_here():
        parser.error("tshark is not installed")
    if not options.folder.is_dir():
        parser.error(f"{options.folder} is no folder")
    tally = run(options.folder, options.table, jobs=options.jobs, is_quiet=options.quiet)
    print(*tally.tell(), sep="\n")
    return 0 if tally.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
