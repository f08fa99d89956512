"""Options that several commands share: the same word means the same everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    F = TypeVar("F", bound=Callable[..., Any])

_FILE: dict[str, Any] = {"metavar": "FILE", "type": click.Path()}
_FILES: dict[str, Any] = {"multiple": True, **_FILE}
_AUTO: dict[str, Any] = {"default": "auto", "show_default": True}


def _option(name: str, parameter: str, text: str, **more: Any) -> Callable[[F], F]:
    """Return an option that has a place in the environment, too: PCAPDIAG_ and its name."""
    variable = f"PCAPDIAG_{name.removeprefix('--').replace('-', '_').upper()}"
    return click.option(name, parameter, envvar=variable, show_envvar=True, help=text, **more)


def _all(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Return what adds options in the order in which help lists them."""

    def add(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return add


captures_argument = click.argument("captures", nargs=-1, required=True, metavar="CAPTURE...", type=click.Path())
"""CAPTURE..."""

role_options = _all(
    _option(
        "--proxy",
        "proxies",
        "An address of the proxy; repeat for several. Found by itself if not given.",
        multiple=True,
        metavar="ADDR",
    ),
    _option(
        "--upstream",
        "upstreams",
        "An upstream of the proxy; repeat for several. Found by itself if not given.",
        multiple=True,
        metavar="ADDR[:PORT]",
    ),
)
"""--proxy and --upstream."""

far_end_option = _option(
    "--upstream-capture",
    "upstream_captures",
    "A capture of the same traffic at the upstream: proves what left it when; repeat for several.",
    **{**_FILES, "metavar": "CAPTURE"},
)
"""--upstream-capture."""

proxy_conf_option = _option(
    "--proxy-conf",
    "proxy_conf",
    "Configuration of the proxy: nginx.conf, nginx -T, APISIX, ingress-nginx or Kong.",
    default="",
    **_FILE,
)
"""--proxy-conf."""

log_format_options = _all(
    _option(
        "--log-format",
        "log_format",
        "Format of the access log as in nginx.conf; auto takes it from --proxy-conf or recognises it.",
        metavar="FORMAT",
        **_AUTO,
    ),
    _option(
        "--log-zone",
        "log_zone",
        "Zone of the error log: auto, UTC, +08:00 or Area/City.",
        metavar="ZONE",
        **_AUTO,
    ),
)
"""--log-format and --log-zone."""

log_options = _all(
    _option("--error-log", "error_logs", "An error log of the proxy; repeat for several.", **_FILES),
    _option("--access-log", "access_logs", "An access log of the proxy; repeat for several.", **_FILES),
    proxy_conf_option,
    log_format_options,
    _option(
        "--upstream-log",
        "upstream_logs",
        "A log of the application behind the proxy: whether a lost request arrived there; repeat for several.",
        **_FILES,
    ),
    _option(
        "--upstream-log-format",
        "upstream_log_format",
        "Format of --upstream-log: nginx variables, a regular expression with named groups, or auto.",
        metavar="FORMAT",
        **_AUTO,
    ),
)
"""--error-log, --access-log, --upstream-log, --proxy-conf, their formats and --log-zone."""

width_option = _option(
    "--width",
    "width",
    "Columns of the terminal report; the terminal's own, or 100 where there is none.",
    type=click.IntRange(min=60, max=400),
)
"""--width."""

anonymize_option = _option(
    "--anonymize",
    "anonymize",
    "Other addresses and names of machines, alike in packets, report and log lines; networks stay together. By a key"
    " of this run alone, or that of the variable PCAPDIAG_ANONYMIZE_KEY.",
    is_flag=True,
)
"""--anonymize."""

file_options = _all(
    click.option(
        "-o", "--output", default="-", help="Write to FILE (readable by you alone) instead of stdout.", **_FILE
    ),
    click.option("--force", is_flag=True, help="Overwrite files that exist already."),
    click.option(
        "-q",
        "--quiet",
        is_flag=True,
        envvar="PCAPDIAG_QUIET",
        show_envvar=True,
        help="No progress and no remarks on stderr.",
    ),
)
"""-o, --force and --quiet."""

output_options = _all(
    file_options,
    click.option("--no-redact", is_flag=True, help="Leave credentials, query values and other secrets as captured."),
)
"""-o, --force, --quiet and --no-redact."""
