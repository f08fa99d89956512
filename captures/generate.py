"""Write the capture of every case that has a script: ``python -m captures.generate`` from the project's folder.

The test of the cases fails when a script and its capture differ.
"""

import tomllib
from pathlib import Path
from typing import Any

from tests.scenario import parse, write_capture

HERE = Path(__file__).parent


def scripts() -> list[tuple[Path, Path, dict[str, Any]]]:
    """Return (capture, script, form) of each case whose case.toml has a [script] table; `form` are Form fields."""
    forms = [(p.parent, tomllib.loads(p.read_text()).get("script")) for p in sorted(HERE.glob("*/case.toml"))]
    return [(case / "capture.pcap", case / "capture.txt", form) for case, form in forms if form is not None]


def main() -> None:
    """Write them all."""
    for capture, script, form in scripts():
        capture.write_bytes(write_capture(parse(script.read_text()), **form))
        print(capture.relative_to(HERE))


if __name__ == "__main__":
    main()
