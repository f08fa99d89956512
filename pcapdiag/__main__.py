"""``python -m pcapdiag``."""

if __name__ == "__main__":
    from pcapdiag.cli import run

    run()
