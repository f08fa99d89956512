"""Files for node_exporter's textfile collector: text of gauges, and files that it never sees half of.

All are gauges without timestamps: what Prometheus' text format and OpenMetrics both take. Label values are escaped.
Knows nothing of what is measured.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from pcapdiag.base.errors import UsageError
from pcapdiag.base.outfolder import OutFolder
from pcapdiag.privacy.escape import shorten, visible

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    Sample = tuple[Mapping[str, str], float]

_MOST_LABEL: Final = 200
_MARK: Final = b"# HELP pcapdiag_"
_PATIENCE_S: Final = 120.0


def gauge(name: str, help_: str, samples: Iterable[Sample]) -> str:
    """Return the lines of one metric.

    Parameters
    ----------
    name : str
        Without ``pcapdiag_``.
    help_ : str
        What it says, in a sentence.
    samples : iterable of (mapping, float)
        Labels and value.

    Returns
    -------
    str
        Lines with their ends.
    """
    full = f"pcapdiag_{name}"
    lines = [f"# HELP {full} {help_}", f"# TYPE {full} gauge"]
    for labels, value in samples:
        inside = ",".join(f'{label}="{_escape(text)}"' for label, text in labels.items())
        lines.append(f"{full}{{{inside}}} {value!r}" if inside else f"{full} {value!r}")
    return "\n".join(lines) + "\n"


def write_gauges(path: str | os.PathLike[str], gauges: Iterable[str], *, patience_s: float = _PATIENCE_S) -> None:
    """Write the file anew, or leave it as it is: node_exporter never sees half of it.

    Parameters
    ----------
    path : str or path
        In the folder that node_exporter reads; ends in ``.prom``. Readable by whoever may read the folder.
    gauges : iterable of str
        As `gauge` returns them.
    patience_s : float
        [s] How long to wait for another pcapdiag that writes there.

    Raises
    ------
    UsageError
        It cannot be written, or node_exporter would not read it.
    """
    target = Path(path)
    if target.suffix != ".prom":
        msg = f"--metrics {path}: node_exporter reads only files whose names end in .prom"
        raise UsageError(msg)
    text = "".join(gauges) + "# EOF\n"
    with OutFolder(target.parent, is_own=lambda head: head.startswith(_MARK)) as folder, folder.locked(patience_s):
        folder.write(target.name, text.encode())


def _escape(text: str) -> str:
    plain = shorten(visible(text), _MOST_LABEL)
    return plain.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
