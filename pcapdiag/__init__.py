"""pcapdiag: tells from a packet capture why a reverse proxy answered 502, and proves it.

The public names are loaded when they are first used: importing the package costs nothing.
"""

import sys

# ``python -m pcapdiag`` looks for modules in the current folder first: whatever lies there would run. This package came
# from there where it is the checkout; then it stays. Before any other import, and so without one.
# While Python looks for what -m names, "-m" is the first of the arguments; the name stands before all others.
if (
    not sys.flags.safe_path
    and sys.argv[:1] == ["-m"]
    and sys.orig_argv[-len(sys.argv)].endswith("pcapdiag")
    and __file__ != sys.path[0] + "/pcapdiag/__init__.py"
):
    del sys.path[0]

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pcapdiag.base.version import __version__

if TYPE_CHECKING:
    from pcapdiag.api.analyze import analyze, compare_reports
    from pcapdiag.api.result import CaptureReport
    from pcapdiag.api.whatif import what_if
    from pcapdiag.base.errors import CaptureError, LogError, MissingExtraError, PcapdiagError, UsageError

_PUBLIC = {
    "CaptureError": "pcapdiag.base.errors",
    "CaptureReport": "pcapdiag.api.result",
    "LogError": "pcapdiag.base.errors",
    "MissingExtraError": "pcapdiag.base.errors",
    "PcapdiagError": "pcapdiag.base.errors",
    "UsageError": "pcapdiag.base.errors",
    "analyze": "pcapdiag.api.analyze",
    "compare_reports": "pcapdiag.api.analyze",
    "what_if": "pcapdiag.api.whatif",
}

__all__ = [
    "CaptureError",
    "CaptureReport",
    "LogError",
    "MissingExtraError",
    "PcapdiagError",
    "UsageError",
    "__version__",
    "analyze",
    "compare_reports",
    "what_if",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted(__all__)
