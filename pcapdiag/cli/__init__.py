"""The command line: one module per command, loaded when it is called; stdout holds the report and nothing else.

Exit codes: 0 nothing at or above ``--fail-on``, 1 findings, 2 the job could not be done, 130 interrupted.
"""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
import traceback
from glob import iglob
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from pcapdiag.base.errors import PcapdiagError
from pcapdiag.base.suggest import did_you_mean
from pcapdiag.cli.config import make_config_option
from pcapdiag.cli.declare import PlacedOption
from pcapdiag.cli.pipes import let_readers_leave
from pcapdiag.cli.versions import version_option

if TYPE_CHECKING:
    from types import FrameType

EXIT_FAILED = 2
EXIT_SIGNAL = 128
EXIT_INTERRUPTED = EXIT_SIGNAL + signal.SIGINT
EXIT_BROKEN_PIPE = EXIT_SIGNAL + signal.SIGPIPE

_COMMANDS = {
    "analyze": "Say why requests failed, and prove it.",
    "capture-command": "Print the tcpdump line, and the log settings, for the next capture.",
    "attach": "Attach a bundle to a ticket: Jira, GitHub, GitLab, or a webhook.",
    "compare": "Say what a change did: fixed, still exposed, not exposed, or cannot tell.",
    "whatif": "Say what other settings would have done, on the captured traffic.",
    "show": "Print frames, segments, connections, exchanges or closings as a table.",
    "scan": "Read what is new among many captures, remember it, say what changed.",
    "watch": "Record for days, and keep only what proves a failure.",
    "history": "Say what earlier scans found: new, worse, gone; trends.",
    "slice": "Write the packets that prove the findings, without secrets.",
    "rule": "List the root causes that are looked for, or explain one.",
    "schema": "Print the JSON Schema of a report, a comparison, a what-if or pcapdiag.toml.",
    "completion": "Print the script that lets bash, zsh or fish complete commands.",
}


_EXTRA_OF = {
    **dict.fromkeys(("alembic", "pyarrow", "sqlalchemy"), "scan"),
    "apprise": "notify",
    "distributed": "dask",
    "fsspec": "remote",
    "psycopg": "postgres",
    "s3fs": "s3",
}
"""Which extra brings a library that not every installation has."""


class _Terminated(KeyboardInterrupt):
    """A signal asks the program to end: as with Ctrl-C, what it has begun to write goes away."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def _terminate(number: int, _frame: FrameType | None) -> NoReturn:
    raise _Terminated(number)


class _Program(click.Group):
    """Commands that are imported when they are called, so that help and completion are instant; and the exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in _COMMANDS:
            return None
        module = cmd_name.replace("-", "_")
        command: click.Command = getattr(import_module(f"pcapdiag.cli.{module}"), module)
        options = [param for param in command.params if isinstance(param, PlacedOption)]
        if all(option.key != "config" for option in options):  # not seen before
            for option in options:
                option.give_variable(cmd_name)
            command.params.append(make_config_option())
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; a capture in its place is analyzed."""
        name = args[0]
        is_option = name.startswith("-") and name != "-"
        if name not in _COMMANDS and not is_option and _is_capture(name):
            return "analyze", self.get_command(ctx, "analyze"), args
        if name in _COMMANDS or is_option or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        msg = f"No such command {name!r}{did_you_mean(name, _COMMANDS) or '.'}"
        raise click.UsageError(msg, ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of commands without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the options; what --help and --version say has readers that may leave, too."""
        try:
            return super().make_context(*args, **extra)
        except BrokenPipeError as error:
            let_readers_leave()
            raise click.exceptions.Exit(EXIT_BROKEN_PIPE) from error

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command and turn every failure into one line on stderr and an exit code."""
        # Loading the compiler makes half a million objects that live until the end; looking through them again and
        # again for garbage costs a tenth of the run time. What a run makes afterwards has no cycles.
        gc.disable()
        # Nothing here multiplies matrices, and OpenBLAS's waiting threads would take time from ours.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        try:
            return super().invoke(ctx)
        except _Terminated as error:
            ctx.exit(_fail(f"ended by {error}; nothing unfinished is left", EXIT_SIGNAL + error.number))
        except KeyboardInterrupt:
            ctx.exit(_fail("interrupted", EXIT_INTERRUPTED))
        except BrokenPipeError:
            let_readers_leave()
            ctx.exit(EXIT_BROKEN_PIPE)
        except OSError as error:
            from pcapdiag.base.disk import explain  # noqa: PLC0415 - help needs no tempfile

            ctx.exit(_fail(explain(error), EXIT_FAILED))
        except PcapdiagError as error:
            ctx.exit(_fail(str(error), EXIT_FAILED))
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:  # noqa: BLE001 - Python's own exit code would be 1, which says "findings"
            name = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
            if name in _EXTRA_OF:
                needed = f"{ctx.invoked_subcommand} needs {name}: pip install 'pcapdiag[{_EXTRA_OF[name]}]'"
                ctx.exit(_fail(needed, EXIT_FAILED))
            traceback.print_exc()
            ctx.exit(_fail("this is a bug in pcapdiag; please report the lines above", EXIT_FAILED))


def _is_capture(name: str) -> bool:
    """Return whether a word that is no command is meant as a capture: a file, a URL, stdin, or a path all the same."""
    return name == "-" or "/" in name or "." in name or os.path.lexists(name) or any(iglob(name))  # noqa: PTH207 - as the shell


def _fail(text: str, exit_code: int) -> int:
    from pcapdiag.privacy.escape import visible  # noqa: PLC0415 - help needs no unicodedata

    try:
        click.echo(f"pcapdiag: {visible(text.replace(chr(10), ' '))}", err=True)
    except BrokenPipeError:  # nobody reads the words; the code says it, too
        let_readers_leave()
    return exit_code


@click.group(
    cls=_Program,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Exit codes: 0 nothing at or above --fail-on, 1 findings, 2 the job could not be done.
Defaults:   pcapdiag.toml here or above, or in ~/.config/pcapdiag/ ([analyze], fail-on = "error"),
            and variables: those that -h names, else PCAPDIAG_COMMAND_OPTION.
Completion: pcapdiag completion -h says how bash, zsh and fish learn it.""",
)
@version_option
def main() -> None:
    """Tell from a packet capture why a reverse proxy answered 502, and prove it.

    \b
      pcapdiag analyze proxy.pcap          the verdict, its proof and the remedy; so does pcapdiag proxy.pcap
      pcapdiag show exchanges proxy.pcap   every request with the idle gap before it
      pcapdiag rule PD101                  one root cause in full
    """  # noqa: D301 - click reads the character \b


main.params.append(make_config_option())


def _is_checkout() -> bool:
    """Tell whether this package lies in the current folder, which then is its own."""
    return Path(__file__).parents[2].samefile(".")


def run() -> NoReturn:
    """Run the program and leave at once.

    Taking down every object one by one before the process ends anyway would take a tenth of a second.
    """
    os.environ["PYTHONSAFEPATH"] = "1"  # workers and helpers are Pythons too: none shall run what lies in this folder
    if sys.flags.ignore_environment and not sys.flags.safe_path and not _is_checkout():
        # With -E, as some systems begin their scripts, they would not look at that: what they get is this flag.
        os.execv(sys.executable, [sys.executable, "-P", *sys.orig_argv[1:]])  # noqa: S606 - ourselves
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:  # nohup has it ignored
            signal.signal(number, _terminate)
    code = 0
    try:
        main(prog_name="pcapdiag")
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BrokenPipeError:  # the words of a refusal, which nobody reads
        let_readers_leave()
        code = EXIT_FAILED
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        let_readers_leave()
        code = code or EXIT_BROKEN_PIPE
    except OSError as error:
        from pcapdiag.base.disk import explain  # noqa: PLC0415 - help needs no tempfile

        if code != EXIT_FAILED:  # what could not be written once is told once
            code = _fail(explain(error), EXIT_FAILED)
    sys.stderr.flush()
    atexit._run_exitfuncs()  # noqa: SLF001 - what an ordinary exit calls: temporary files go, coverage is written
    os._exit(code)
