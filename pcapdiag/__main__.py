"""``python -m pcapdiag``."""

from pcapdiag.cli import main

if __name__ == "__main__":
    main(prog_name="pcapdiag")
