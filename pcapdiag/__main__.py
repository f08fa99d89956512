"""``python -m pcapdiag``."""

import sys
from pathlib import Path

if __name__ == "__main__":
    # ``-m`` looks for modules in the current folder first: whatever lies there would run. This package came from there
    # where it is the checkout; then it stays.
    if not sys.flags.safe_path and Path(sys.path[0]).resolve() != Path(__file__).resolve().parent.parent:
        del sys.path[0]
    from pcapdiag.cli import run

    run()
