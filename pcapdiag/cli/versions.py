"""``pcapdiag --version``: what a report of a bug has to say of the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pcapdiag.base.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

_LIBRARIES = (
    *("numpy", "pandas", "click", "rich", "jinja2", "crossplane", "dpkt", "pyyaml", "isal", "lz4", "backports.zstd"),
    *("vl-convert-python", "pyarrow", "sqlalchemy", "alembic", "fsspec", "s3fs", "gcsfs", "paramiko", "distributed"),
    *("apprise", "psycopg", "yacryptopan", "requests"),
)
"""What reads, computes, draws or stores; of those that only an extra brings, some may not be there."""


def version_lines() -> list[str]:
    """Return version, Python and platform, and the versions of libraries; nothing of them is loaded."""
    import platform  # noqa: PLC0415 - help needs none
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - the same

    there: list[str] = []
    absent: list[str] = []
    for name in _LIBRARIES:
        try:
            there.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            absent.append(name)
    return [
        f"pcapdiag {__version__}",
        f"Python {platform.python_version()} ({platform.python_implementation()})",
        f"Platform {platform.platform()}",
        f"Libraries {', '.join(there)}",
        *([f"Not installed {', '.join(absent)}"] if absent else []),
    ]


def version_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add -V, --version."""

    def show(ctx: click.Context, _param: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's signature
        if value and not ctx.resilient_parsing:
            click.echo("\n".join(version_lines()))
            ctx.exit()

    return click.option(
        "-V",
        "--version",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=show,
        help="Show the version, and those of Python, platform and libraries for a bug report, and exit.",
    )(function)
