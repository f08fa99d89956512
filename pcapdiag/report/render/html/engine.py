"""The template engine as every page uses it: everything printed is made visible and escaped; the style all pages share.

Knows no report and no page.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from pcapdiag.privacy.escape import visible
from pcapdiag.report.remedy import split_code

if TYPE_CHECKING:
    from collections.abc import Callable

    from jinja2 import Environment


def make_environment(load: Callable[[str], str]) -> Environment:
    """Return an environment for templates.

    Parameters
    ----------
    load : callable
        Returns the text of a template by its name.

    Returns
    -------
    Environment
        Undefined names are errors; text is escaped unless the program itself made it markup.
    """
    import jinja2  # noqa: PLC0415 - only pages need it
    from markupsafe import Markup  # noqa: PLC0415 - the same

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(load),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_seen,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    # Our own files, not the input's: what their hashes in the policy stand for.
    environment.globals["markup"] = Markup
    environment.filters["parts"] = split_code
    return environment


def csp_hash(text: str) -> str:
    """Return what a Content-Security-Policy calls a style or script by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def asset(name: str) -> str:
    """Return a file of the report's templates, such as ``report.css``, the look of all pages."""
    return (files("pcapdiag.report.render.html") / "templates" / name).read_text(encoding="utf-8")


def _seen(value: Any) -> Any:
    """Return what is about to be printed with every character visible; escaping for HTML comes after."""
    return visible(value) if type(value) is str else value
