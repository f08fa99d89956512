"""pcapdiag: tells from a packet capture why a reverse proxy answered 502, and proves it.

The public names are loaded when they are first used: importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pcapdiag.api import analyze, compare_reports
    from pcapdiag.errors import CaptureError, LogError, MissingExtraError, PcapdiagError, UsageError
    from pcapdiag.result import CaptureReport

__version__ = "0.1.0"

_PUBLIC = {
    "CaptureError": "pcapdiag.errors",
    "CaptureReport": "pcapdiag.result",
    "LogError": "pcapdiag.errors",
    "MissingExtraError": "pcapdiag.errors",
    "PcapdiagError": "pcapdiag.errors",
    "UsageError": "pcapdiag.errors",
    "analyze": "pcapdiag.api",
    "compare_reports": "pcapdiag.api",
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
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted(__all__)
