"""Options that several commands share: the same word means the same everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    F = TypeVar("F", bound=Callable[..., Any])


def captures_argument(function: F) -> F:
    """Add CAPTURE..."""
    return click.argument("captures", nargs=-1, required=True, metavar="CAPTURE...", type=click.Path())(function)


def role_options(function: F) -> F:
    """Add --proxy and --upstream."""
    function = click.option(
        "--upstream",
        "upstreams",
        multiple=True,
        metavar="ADDR[:PORT]",
        envvar="PCAPDIAG_UPSTREAM",
        show_envvar=True,
        help="An upstream of the proxy; repeat for several. Found by itself if not given.",
    )(function)
    return click.option(
        "--proxy",
        "proxies",
        multiple=True,
        metavar="ADDR",
        envvar="PCAPDIAG_PROXY",
        show_envvar=True,
        help="An address of the proxy; repeat for several. Found by itself if not given.",
    )(function)


def far_end_option(function: F) -> F:
    """Add --upstream-capture."""
    return click.option(
        "--upstream-capture",
        "upstream_captures",
        multiple=True,
        metavar="CAPTURE",
        envvar="PCAPDIAG_UPSTREAM_CAPTURE",
        show_envvar=True,
        type=click.Path(),
        help="A capture of the same traffic at the upstream: proves what left it when; repeat for several.",
    )(function)


def log_options(function: F) -> F:
    """Add --error-log, --access-log, --upstream-log, --proxy-conf, their formats and --log-zone."""
    function = click.option(
        "--upstream-log-format",
        default="auto",
        show_default=True,
        metavar="FORMAT",
        envvar="PCAPDIAG_UPSTREAM_LOG_FORMAT",
        show_envvar=True,
        help="Format of --upstream-log: nginx variables, a regular expression with named groups, or auto.",
    )(function)
    function = click.option(
        "--upstream-log",
        "upstream_logs",
        multiple=True,
        metavar="FILE",
        envvar="PCAPDIAG_UPSTREAM_LOG",
        show_envvar=True,
        type=click.Path(),
        help="A log of the application behind the proxy: whether a lost request arrived there; repeat for several.",
    )(function)
    function = click.option(
        "--log-zone",
        default="auto",
        show_default=True,
        metavar="ZONE",
        envvar="PCAPDIAG_LOG_ZONE",
        show_envvar=True,
        help="Zone of the error log: auto, UTC, +08:00 or Area/City.",
    )(function)
    function = click.option(
        "--log-format",
        default="auto",
        show_default=True,
        metavar="FORMAT",
        envvar="PCAPDIAG_LOG_FORMAT",
        show_envvar=True,
        help="Format of the access log as in nginx.conf; auto takes it from --proxy-conf or recognises it.",
    )(function)
    function = click.option(
        "--proxy-conf",
        default="",
        metavar="FILE",
        envvar="PCAPDIAG_PROXY_CONF",
        show_envvar=True,
        type=click.Path(),
        help="Configuration of the proxy: nginx.conf, nginx -T, APISIX, ingress-nginx or Kong.",
    )(function)
    function = click.option(
        "--access-log",
        "access_logs",
        multiple=True,
        metavar="FILE",
        envvar="PCAPDIAG_ACCESS_LOG",
        show_envvar=True,
        type=click.Path(),
        help="An access log of the proxy; repeat for several.",
    )(function)
    return click.option(
        "--error-log",
        "error_logs",
        multiple=True,
        metavar="FILE",
        envvar="PCAPDIAG_ERROR_LOG",
        show_envvar=True,
        type=click.Path(),
        help="An error log of the proxy; repeat for several.",
    )(function)


def anonymize_option(function: F) -> F:
    """Add --anonymize."""
    return click.option(
        "--anonymize",
        is_flag=True,
        envvar="PCAPDIAG_ANONYMIZE",
        show_envvar=True,
        help="Other addresses and names of machines, alike in packets, report and log lines; networks stay together. By"
        " a key of this run alone, or that of the variable PCAPDIAG_ANONYMIZE_KEY.",
    )(function)


def output_options(function: F) -> F:
    """Add -o, --force, --quiet and --no-redact."""
    function = click.option(
        "--no-redact", is_flag=True, help="Leave credentials, query values and other secrets as captured."
    )(function)
    return file_options(function)


def file_options(function: F) -> F:
    """Add -o, --force and --quiet."""
    function = click.option(
        "-q",
        "--quiet",
        is_flag=True,
        envvar="PCAPDIAG_QUIET",
        show_envvar=True,
        help="No progress and no remarks on stderr.",
    )(function)
    function = click.option("--force", is_flag=True, help="Overwrite files that exist already.")(function)
    return click.option(
        "-o",
        "--output",
        default="-",
        metavar="FILE",
        type=click.Path(),
        help="Write to FILE (readable by you alone) instead of stdout.",
    )(function)
