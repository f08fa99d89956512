"""Options that several commands share: the same word means the same everywhere."""

from __future__ import annotations

from dataclasses import fields
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import click

from pcapdiag.base.suggest import did_you_mean
from pcapdiag.cli.choices import Choice, complete_codes
from pcapdiag.cli.declare import OptionPlace, command_option, option
from pcapdiag.cli.formats import choose_format

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    F = TypeVar("F", bound=Callable[..., Any])

NOTIFY_VARIABLE: Final = "PCAPDIAG_NOTIFY"

_FILE: dict[str, Any] = {"metavar": "FILE", "type": click.Path()}
_FILES: dict[str, Any] = {"multiple": True, **_FILE}
_AUTO: dict[str, Any] = {"default": "auto", "show_default": True}


def options(*added: Callable[[F], F]) -> Callable[[F], F]:
    """Return what adds options in the order in which help lists them."""

    def add(function: F) -> F:
        for one in reversed(added):
            function = one(function)
        return function

    return add


def collect_inputs(function: F) -> F:
    """Give a command `inputs`, one `Inputs`, in place of those of its options that are its fields."""

    @wraps(function)
    def call(*args: Any, **values: Any) -> Any:
        from pcapdiag.analysis.inputs import Inputs  # noqa: PLC0415 - help must not wait for it

        given = {field.name: values.pop(field.name) for field in fields(Inputs) if field.name in values}
        given["redact"] = not values.pop("no_redact", False)
        return function(*args, inputs=Inputs(**given), **values)

    return cast("F", call)


captures_argument = click.argument("captures", nargs=-1, required=True, metavar="CAPTURE...", type=click.Path())
"""CAPTURE..."""

role_options = options(
    option(
        "--proxy",
        "proxies",
        place=OptionPlace.ANY_FILE,
        help="An address of the proxy; repeat for several. Found by itself if not given.",
        multiple=True,
        metavar="ADDR",
    ),
    option(
        "--upstream",
        "upstreams",
        place=OptionPlace.ANY_FILE,
        help="An upstream of the proxy; repeat for several. Found by itself if not given.",
        multiple=True,
        metavar="ADDR[:PORT]",
    ),
)
"""--proxy and --upstream."""

far_end_option = option(
    "--upstream-capture",
    "upstream_captures",
    help="A capture of the same traffic at the upstream: proves what left it when; repeat for several.",
    **{**_FILES, "metavar": "CAPTURE"},
)
"""--upstream-capture."""

keys_option = option(
    "--tls-keys",
    "tls_keys",
    help="Keys of TLS sessions as SSLKEYLOGFILE makes them: failed requests inside TLS get their names; repeat for"
    " several. Keys inside a pcapng are used without it.",
    **{**_FILES, "metavar": "SSLKEYLOGFILE"},
)
"""--tls-keys."""


def log_options(*, followed: bool = False) -> Callable[[F], F]:
    """Return --error-log, --access-log, --upstream-log, --proxy-conf, their formats and --log-zone.

    Parameters
    ----------
    followed : bool
        Whether the command follows logs while they grow.
    """
    how, likewise = (", followed while it grows and rotates", ", followed likewise") if followed else ("", "")
    return options(
        option("--error-log", "error_logs", help=f"An error log of the proxy{how}; repeat for several.", **_FILES),
        option(
            "--access-log", "access_logs", help=f"An access log of the proxy{likewise}; repeat for several.", **_FILES
        ),
        option(
            "--proxy-conf",
            help="Configuration of the proxy: nginx.conf, nginx -T, APISIX, ingress-nginx, Kong, HAProxy, Apache,"
            " Envoy, Traefik or Caddy.",
            default="",
            **_FILE,
        ),
        option(
            "--log-format",
            place=OptionPlace.ANY_FILE,
            help="Format of the access log as in nginx.conf; auto takes it from --proxy-conf or recognises it.",
            metavar="FORMAT",
            **_AUTO,
        ),
        option(
            "--log-zone",
            place=OptionPlace.ANY_FILE,
            help="Zone of the error log: auto, UTC, +08:00 or Area/City.",
            metavar="ZONE",
            **_AUTO,
        ),
        option(
            "--upstream-log",
            "upstream_logs",
            help=f"A log of the application behind the proxy{likewise}: whether a lost request arrived there; "
            "repeat for several.",
            **_FILES,
        ),
        option(
            "--upstream-log-format",
            place=OptionPlace.ANY_FILE,
            help="Format of --upstream-log: nginx variables, a regular expression with named groups, or auto.",
            metavar="FORMAT",
            **_AUTO,
        ),
    )


def _split(_ctx: click.Context, _param: click.Parameter, values: Sequence[str]) -> tuple[str, ...]:
    return tuple(code.strip() for value in values for code in value.split(",") if code.strip())


_CODES: dict[str, Any] = {
    "multiple": True,
    "metavar": "CODES",
    "callback": _split,
    "shell_complete": complete_codes,
}
code_options = options(
    option("--select", place=OptionPlace.ANY_FILE, help="Report only these codes (PD101,PD2).", **_CODES),
    option("--ignore", place=OptionPlace.ANY_FILE, help="Report all but these codes.", **_CODES),
)
"""--select and --ignore."""


def code_option(text: str) -> Callable[[F], F]:
    """Return --code, for one code or several by repeating it."""
    return command_option(
        "--code",
        "codes",
        place=OptionPlace.ANY_FILE,
        multiple=True,
        metavar="CODE",
        shell_complete=complete_codes,
        help=text,
    )


EXIT_FINDINGS = 1
"""The exit code of who found something that --fail-on names."""


def fail_on_option(text: str = "Lowest severity that makes the exit code 1.") -> Callable[[F], F]:
    """Return --fail-on with a severity."""
    severities = Choice(["error", "warning", "info", "never"])
    return option(
        "--fail-on", place=OptionPlace.ANY_FILE, type=severities, default="warning", show_default=True, help=text
    )


def format_option(formats: Sequence[str], text: str, *, variable: str = "") -> Callable[[F], F]:
    """Return --format with the formats of a command, the first of them the default; a name after -o chooses, too."""
    declared = command_option(
        "--format",
        "format_",
        place=OptionPlace.ANY_FILE,
        type=Choice(formats),
        default=formats[0],
        show_default=True,
        variable=variable,
        help=text,
    )

    def add(function: F) -> F:
        @wraps(function)
        def call(*args: Any, format_: str, **values: Any) -> Any:
            if "output" in values:
                format_ = choose_format(click.get_current_context(), format_, values["output"], formats)
            return function(*args, format_=format_, **values)

        return declared(cast("F", call))

    return add


def store_option(text: str) -> Callable[[F], F]:
    """Return --store, for who writes it and for who reads it."""
    where = "an SQLite file or postgresql://...; ~/.local/share/pcapdiag/store.db if not given."
    return option("--store", default="", metavar="URL", help=f"{text}: {where}")


def metrics_option(text: str, *, variable: str = "") -> Callable[[F], F]:
    """Return --metrics."""
    path = click.Path(dir_okay=False)
    help_ = f"{text} metrics for node_exporter's textfile collector."
    return command_option("--metrics", default="", metavar="FILE.prom", type=path, variable=variable, help=help_)


def notify_option(what: str) -> Callable[[F], F]:
    """Return --notify-url-env, to tell about what there is."""
    return command_option(
        "--notify-url-env",
        default="",
        metavar="NAME",
        help=f"Tell about {what}: the variable that holds the URLs of Apprise, separated by blanks;"
        f" {NOTIFY_VARIABLE} if not given. A URL holds secrets, so it has no place on a command line.",
    )


width_option = option(
    "--width",
    place=OptionPlace.ANY_FILE,
    help="Columns of the terminal report; the terminal's own or those of COLUMNS, or 100 where there is neither.",
    type=click.IntRange(min=60, max=400),
)
"""--width."""

SECTIONS = ("findings", "moments", "upstreams", "settings", "ends", "ledger", "notes", "verdicts", "input")
"""Sections of the report for a terminal, as `report.render.terminal.SECTIONS` has them: help must not wait for rich."""


def _sections(_context: click.Context, _parameter: click.Parameter, text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if name not in SECTIONS:
            near = did_you_mean(name, SECTIONS) or f"; there are {', '.join(SECTIONS)}"
            msg = f"{name!r} is no section{near}"
            raise click.BadParameter(msg)
    return names


verbose_option = option(
    "-v",
    "--verbose",
    place=OptionPlace.ANY_FILE,
    is_flag=True,
    help="The whole report on the terminal, not one page of it.",
)
"""-v, --verbose."""

show_option = option(
    "--show",
    place=OptionPlace.ANY_FILE,
    default="",
    metavar="SECTIONS",
    callback=_sections,
    help=f"Sections that follow the page on the terminal: {', '.join(SECTIONS)}.",
)
"""--show."""
color_option = option(
    "--color",
    place=OptionPlace.ANY_FILE,
    type=Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="Colours of the terminal report; auto: on a terminal, or as NO_COLOR and FORCE_COLOR say.",
)
"""--color."""

redact_option = command_option(
    "--no-redact",
    place=OptionPlace.LINE,
    is_flag=True,
    help="Leave credentials, query values and other secrets as captured.",
)
"""--no-redact."""

all_option = option(
    "--all",
    "judge_all",
    help="Judge and list every failure and endpoint of a flood; else some of every kind stand for the others.",
    is_flag=True,
)
"""--all."""

hash_option = option(
    "--hash", "with_hashes", help="Put the SHA-256 of every input into the report, as a bundle has it.", is_flag=True
)
"""--hash."""

anonymize_option = option(
    "--anonymize",
    help="Other addresses and names of machines, alike in packets, report and log lines; networks stay together. By a"
    " key of this run alone, or that of the variable PCAPDIAG_ANONYMIZE_KEY.",
    is_flag=True,
)
"""--anonymize."""


def quiet_option(text: str = "No progress and no remarks on stderr.") -> Callable[[F], F]:
    """Return -q, --quiet."""
    return option("-q", "--quiet", place=OptionPlace.ANY_FILE, is_flag=True, help=text)


file_options = options(
    command_option(
        "-o", "--output", default="-", help="Write to FILE (readable by you alone) instead of stdout.", **_FILE
    ),
    command_option("--force", place=OptionPlace.LINE, is_flag=True, help="Overwrite files that exist already."),
    quiet_option(),
)
"""-o, --force and --quiet."""
