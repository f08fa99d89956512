"""``python -m pcapdiag``."""

from pcapdiag.cli import run

if __name__ == "__main__":
    run()
