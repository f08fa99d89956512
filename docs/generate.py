"""Write the pages of this folder that are made from the code; with --check, only say which have drifted.

The command line comes from click, the JSON report from its dataclasses, the rules from their docstrings: whoever
changes one of these changes its page with `make docs`.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
import types
import typing
from collections.abc import Mapping
from enum import Enum
from pathlib import Path

import click

from pcapdiag.base import scenarios, triage
from pcapdiag.base.findings import Confidence
from pcapdiag.base.protocols import PROTOCOL_FACTS
from pcapdiag.base.version import __version__
from pcapdiag.cli import main as cli
from pcapdiag.cli.show import FOR_PEOPLE
from pcapdiag.proxy.conf.read import CONFIGURATIONS
from pcapdiag.proxy.conf.settings import ProxyKind
from pcapdiag.proxy.logs.foreign import FOREIGN_LOGS
from pcapdiag.report import model
from pcapdiag.report.compare import model as comparison
from pcapdiag.report.schema import describe
from pcapdiag.report.table_columns import TABLES, column_words
from pcapdiag.report.triage import render as triage_form
from pcapdiag.report.whatif import json as whatif
from pcapdiag.rules import RULES
from pcapdiag.rules._precision import LEAST_JUDGED, LEAST_TRUE, most_certain, precision
from tests.proxy.logs.wrappers import WRAPPERS

DOCS = Path(__file__).resolve().parent
MADE = "<!-- Made from the code by `make docs`; edit the code instead. -->\n\n"
JSON_PREFACE = f"""\
`pcapdiag analyze --format json`, `schema_version` {model.SCHEMA_VERSION}. Fields may be added; what is here keeps its
name and meaning. A name that holds a quantity ends in its unit. Beside every field `..._ts_ns` stands `..._ts`, the
same time in ISO 8601 (UTC), null when the time is -1. Frames are numbered from 1 within the file named by `capture`.
No index and no time are -1. `pcapdiag schema report` (`comparison`, `whatif`, `triage`) prints the same as JSON Schema.
"""
COMPARISON_PREFACE = f"""\
`pcapdiag compare --format json`, `schema_version` {comparison.SCHEMA_VERSION}, with the conventions of
[the report](json.md). An outcome is `not_exposed`, `fixed`, `cannot_tell`, `still_exposed` or `newly_exposed`; that of
the whole is the last of these that any cause has. Handshakes are those of TCP.
"""
WHATIF_PREFACE = f"""\
`pcapdiag whatif --format json`, `schema_version` {whatif.SCHEMA_VERSION}: the fields of WhatIf below, and before them
`schema_version`, `tool` and `inputs` as in [the report](json.md). The first scenario is `observed` (counted: `low`,
`expected` and `high` are the same), the second `replayed` (the settings of the capture), then one per scenario that was
asked for, in this order. Between `low` and `high` lie nine of ten replays. What is not known is null.
[What if](whatif.md) explains the model.
"""
TRIAGE_PREFACE = f"""\
`pcapdiag analyze --format json` without a capture, `schema_version` {triage_form.SCHEMA_VERSION}: the fields of Triage
below, and before them `schema_version`, `tool` and `inputs` as in [the report](json.md). Times are texts, by the clock
that `clock` names. Nothing here is a cause.
"""
TABLES_PREFACE = """\
`pcapdiag show TABLE CAPTURE`: `--format table` shows the columns that are marked here, CSV, JSON and Parquet show all;
`--columns` chooses. A name that holds a quantity ends in its unit. What is missing is empty in table and CSV, and -1 in
JSON, Parquet and `--where`. `pcapdiag analyze --format csv` has the exchanges with the same columns.
"""
PRECISION_PREFACE = f"""\
Claims of the program on captures whose truth is known: the lab's and the incidents' (the servers' own logs say what
became of each request), captures made after public reports, the cases of `captures/`, and public captures whose frames
were read one by one (`tests/judged/`, 200 of them; the table there names frames and reasons). A claim is one request or
event. *Misleading*: the cause is near, its words or its severity are not. `python -m tests.precision` counts.

A cause is called confirmed only where at least {LEAST_JUDGED} claims of its code and protocol were judged and
{LEAST_TRUE:.0%} of them were true; elsewhere it is likely at most, unless captures of both ends prove it. A code and
protocol that is not here was never judged. `tcp`: attempts to connect; `any`: events that are no single request.

"""
PROXIES_PREFACE = """\
The logs and configurations of nginx and its kin (OpenResty, APISIX, ingress-nginx, Kong) are read as nginx writes
them. Logs of the proxies below are told by their lines, whichever of `--error-log` and `--access-log` names them, and
each failure in them is joined with the try that failed, one to one, by time, server, request and what happened; each
gets one verdict, as the entries of nginx do. A client that went away and a timeout are never joined with a race.

Where a log names a server and not its address (HAProxy), `--proxy-conf` says which it is; without it that is learned
from at least three failures that agree with the capture. Tries that the proxy repeated, and HAProxy's silent closing
of a client's connection when a kept connection to the server broke under a later request, have no line of their own:
they are found in packets alone. Rotated files beside them are read where a log begins after the capture, as those of
nginx are.

Caddy's lines were recorded with Caddy 2.6 in the live lab; those of Traefik, of Google's load balancers and of Classic
Load Balancers are as their documentation has them. Caddy names the server of a try only with `level DEBUG`, Google's
load balancers name it without its port, Traefik tells its own answers from those of a server by their length alone, and
a Classic Load Balancer does not say when a request that failed was over: it is joined by order, or not at all.

Of haproxy.cfg are read: backends and servers, `http-reuse`, `pool-purge-delay`, `pool-max-conn`, timeouts, `retries`,
`retry-on`, and whether paths are rewritten. Of httpd's file: `ProxyPass`, `BalancerMember` and `ProxySet` with their
parameters, `ProxyTimeout`, `Timeout`, `SetEnv proxy-nokeepalive` and `proxy-initial-not-pooled`; included files are
not. Of Envoy's (bootstrap, discovery resources in files, `/config_dump`, what `istioctl proxy-config cluster -o json`
prints; YAML or JSON): clusters with their endpoints, `idle_timeout`, `max_connection_duration`,
`max_requests_per_connection` and `connect_timeout`, and the `timeout` and `retry_policy` of routes to them. Of
Traefik's (static and dynamic files in YAML or TOML, `IngressRoute` and `ServersTransport` of Kubernetes): services with
their servers, `serversTransport` and the middleware `retry`; no labels of containers. Of a Caddyfile with its snippets,
or Caddy's JSON: `reverse_proxy` and `php_fastcgi` with their transport and retries; no imported files. What these
three say of defaults is from their documentation; the Caddyfile is held against what `caddy adapt` makes of it.
"""
PROTOCOLS_PREFACE = """\
What is spoken between proxy and upstream is told by the first bytes of each connection, whatever its port. *Confirmed*
names the causes that may be called so over it: enough claims were judged, and nearly all of them were true
([what each cause is worth](precision.md)); elsewhere a cause is likely at most.
"""
LOG_FORMS_PREFACE = """\
nginx's own head (time, level, process) is searched for inside each line, so that what stands before it need not be
known. These forms are tried on each change: a log that is wrapped so gives the same entries as the bare one. `LINE`
stands for a line of the log.
"""
HELP_WIDTH = 100
ROFF = str.maketrans({"\\": r"\(rs", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"})
"""Characters that a formatter of man pages would take for others, or for orders."""
SIMPLE = {int: "integer", str: "string", float: "number", bool: "boolean", typing.Any: "any"}


def make_cli_page() -> str:
    """Return the help of every command."""
    text = "# Command line\n\n" + MADE
    with click.Context(cli, info_name="pcapdiag", **{**cli.context_settings, "terminal_width": HELP_WIDTH}) as top:
        text += fence(cli.get_help(top))
        for name in cli.list_commands(top):
            command = cli.get_command(top, name)
            with click.Context(command, info_name=name, parent=top, terminal_width=HELP_WIDTH) as context:
                text += f"\n## {name}\n\n" + fence(command.get_help(context))
    return text


def make_man_pages() -> dict[str, str]:
    """Return a man page for pcapdiag and for each command.

    They are not made by click-man, which sees no command that is loaded late, cuts sentences, and fills examples.
    """
    pages = {}
    with click.Context(cli, info_name="pcapdiag", **cli.context_settings) as top:
        commands = {name: cli.get_command(top, name) for name in cli.list_commands(top)}
        listed = "".join(f".TP\n.B pcapdiag\\-{roff(n)}\n{roff(c.help.split('.')[0])}.\n" for n, c in commands.items())
        also = [f"pcapdiag-{name}" for name in commands]
        pages["man/pcapdiag.1"] = make_man_page(cli, top, f".SH COMMANDS\n{listed}", also)
        for name, command in commands.items():
            with click.Context(command, info_name=name, parent=top) as context:
                pages[f"man/pcapdiag-{name}.1"] = make_man_page(command, context, "", ["pcapdiag"])
    return pages


def make_man_page(command: click.Command, context: click.Context, commands: str, also: list[str]) -> str:
    """Return the man page of one command, `commands` near its end; it has a version instead of a date.

    No word is broken, or names of variables would stand there with a hyphen that is not theirs.
    """
    name = context.command_path.replace(" ", "-")
    first, _, rest = inspect.cleandoc(command.help).partition("\n\n")
    synopsis = " ".join(command.collect_usage_pieces(context))
    text = f'.\\" Made from the code by `make docs`; edit the code instead.\n.nr HY 0\n.TH {roff(name.upper())} 1 "" '
    title = first.replace("\n", " ").rstrip(".")
    text += f'"pcapdiag {__version__}" "pcapdiag"\n.SH NAME\n{roff(name)} \\- {roff(title)}\n'
    text += f".SH SYNOPSIS\n.B {roff(context.command_path)}\n{roff(synopsis)}\n"
    if rest:
        text += f".SH DESCRIPTION\n{roff_paragraphs(rest)}"
    records = [record for parameter in command.get_params(context) if (record := parameter.get_help_record(context))]
    explained = [(names, words) for names, words in records if words]  # arguments stand in the synopsis
    text += ".SH OPTIONS\n" + "".join(f".TP\n.B {roff(names)}\n{roff(words)}\n" for names, words in explained)
    text += commands
    if command.epilog:
        text += f".SH NOTES\n{roff_paragraphs(inspect.cleandoc(command.epilog))}"
    return text + ".SH SEE ALSO\n" + " ,\n".join(f".BR {roff(page)} (1)" for page in also) + "\n"


def roff_paragraphs(text: str) -> str:
    """Return paragraphs of click's help; those behind click's mark for it keep their lines."""
    made = ""
    for paragraph in re.split(r"\n\s*\n", text):
        kept = paragraph.startswith("\b\n")
        body = roff(paragraph.removeprefix("\b\n"))
        made += f".PP\n.EX\n{body}\n.EE\n" if kept else f".PP\n{body}\n"
    return made


def roff(text: str) -> str:
    """Return `text` so that it is printed as it stands, and no line of it is an order to the formatter."""
    return re.sub(r"^\.", r"\\&.", text.translate(ROFF), flags=re.MULTILINE)


def fence(text: str) -> str:
    """Return `text` as a block that Markdown leaves alone."""
    return f"```\n{text.rstrip()}\n```\n"


def make_json_page() -> str:
    """Return every object of the JSON report with its fields, the report itself first."""
    return f"# JSON report\n\n{MADE}{JSON_PREFACE}" + describe_objects(model.Report)


def make_comparison_page() -> str:
    """Return every object of a comparison's JSON with its fields."""
    return f"# JSON of a comparison\n\n{MADE}{COMPARISON_PREFACE}" + describe_objects(comparison.Comparison)


def make_whatif_page() -> str:
    """Return every object of a what-if's JSON with its fields."""
    return f"# JSON of a what-if\n\n{MADE}{WHATIF_PREFACE}" + describe_objects(scenarios.WhatIf)


def make_triage_page() -> str:
    """Return every object of the JSON that is written without a capture, with its fields."""
    return f"# JSON before there is a capture\n\n{MADE}{TRIAGE_PREFACE}" + describe_objects(triage.Triage)


def describe_objects(root: type) -> str:
    """Return a section with a table of fields for `root` and every object that it holds."""
    text = ""
    for name, cls in list_objects(root):
        text += f"\n## {name}\n\n{describe(cls)}\n\n| field | type |\n|-------|------|\n"
        hints = typing.get_type_hints(cls)
        text += "".join(f"| `{field.name}` | {name_type(hints[field.name])} |\n" for field in model.json_fields(cls))
    return text


def list_objects(root: type) -> list[tuple[str, type]]:
    """Return the dataclasses that `root` is made of, each before those that it holds, and their names."""
    found = [root]
    for cls in found:  # grows while it is read
        for field_type in typing.get_type_hints(cls).values():
            for part in (field_type, *typing.get_args(field_type)):
                if dataclasses.is_dataclass(part) and part not in found:
                    found.append(part)
    return [(cls.__name__, cls) for cls in found]


def name_type(hint: object) -> str:
    """Return a type in the words of JSON."""
    if hint in SIMPLE:
        return SIMPLE[hint]
    if isinstance(hint, type) and issubclass(hint, Enum):
        words = dict.fromkeys(model.to_plain(member) for member in hint)
        return " / ".join(f"`{word}`" for word in words)
    if dataclasses.is_dataclass(hint):
        return f"[{hint.__name__}](#{hint.__name__.lower()})"
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType or origin is typing.Union:
        return " or ".join("null" if part is types.NoneType else name_type(part) for part in parts)
    if origin is tuple and parts[-1] is Ellipsis:
        return f"array of {name_type(parts[0])}"
    if origin is tuple:
        return f"array of {len(parts)}: {', '.join(name_type(part) for part in parts)}"
    if origin in (dict, Mapping):
        return "object"
    msg = f"no JSON words for {hint}"
    raise TypeError(msg)


def make_tables_page() -> str:
    """Return the columns of each table of `pcapdiag show`."""
    text = f"# Tables\n\n{MADE}{TABLES_PREFACE}"
    for table, columns in TABLES.items():
        text += f"\n## {table}\n\n| column | for people | meaning |\n|--------|---|---------|\n"
        for name, meaning in columns.items():
            words = ", ".join(f"`{word}`" for word in column_words(name))
            shown = "yes" if name in FOR_PEOPLE[table] else ""
            text += f"| `{name}` | {shown} | {meaning}{f': {words}' if words else ''} |\n"
    return text


def make_rule_index() -> str:
    """Return the catalogue."""
    text = (
        f"# Root causes\n\n{MADE}In the order of reports.\n\n| code | name | severity | headline |\n|---|---|---|---|\n"
    )
    for rule in RULES:
        text += f"| [{rule.code}]({rule.code}.md) | {rule.name} | {rule.severity.name.lower()} | {rule.title} |\n"
    return text


def make_rule_page(rule: type) -> str:
    """Return the page of one rule."""
    text = f"# {rule.code} {rule.name}\n\n{MADE}**{rule.title}.** {rule.summary()}\n\n"
    text += f"Severity: {rule.severity.name.lower()}. Since {rule.since}. Needs {', '.join(rule.needs)}."
    text += f" Helped by {', '.join(rule.helped_by)}.\n" if rule.helped_by else "\n"
    for heading, section in rule.sections().items():
        text += f"\n## {heading}\n\n{section}\n"
    return text


def make_precision_page() -> str:
    """Return the page that says what each cause was worth where the truth is known."""
    lines = [f"# What each cause is worth\n\n{MADE}{PRECISION_PREFACE}"]
    lines += ["| code | protocol | true | misleading | false | at most |", "|---|---|---|---|---|---|"]
    for (code, protocol), judged in precision().items():
        most = most_certain(code, protocol).name.lower()
        numbers = f"{judged.true} | {judged.misleading} | {judged.false}"
        lines.append(f"| [{code}](rules/{code}.md) | {protocol} | {numbers} | {most} |")
    return "\n".join(lines) + "\n"


def make_proxies_page() -> str:
    """Return the page on proxies that are not nginx: what of their logs is told apart, with a sample of each."""
    text = f"# Proxies\n\n{MADE}| proxy | log | configuration |\n|---|---|---|\n"
    logs = {known.proxy: known.log for known in FOREIGN_LOGS}
    for kind in ProxyKind:
        of_nginx = "error log and access log, in any log_format"
        text += f"| {kind.value} | {logs.get(kind.value, of_nginx)} | {CONFIGURATIONS.get(kind, 'none is read')} |\n"
    text += f"\n{PROXIES_PREFACE}"
    for known in FOREIGN_LOGS:
        text += f"\n## {known.proxy}\n\nLog: {known.log}.\n\n| sign | what it says | kind in JSON |\n|---|---|---|\n"
        text += "".join(f"| `{kind.sign}` | {kind.meaning} | `{kind.kind.name.lower()}` |\n" for kind in known.kinds)
        text += f"\n{fence(known.kinds[0].sample)}"
    return text


def make_protocols_page() -> str:
    """Return the page on what is spoken between proxy and upstream, with what verdicts over it may be certain of."""
    text = f"# Protocols\n\n{MADE}{PROTOCOLS_PREFACE}"
    text += "\n| protocol | told by | an exchange is | named by | confirmed | defined in |\n|---|---|---|---|---|---|\n"
    for protocol, facts in PROTOCOL_FACTS.items():
        label = protocol.name.lower()
        sure = [c for c, of in precision() if of == label and most_certain(c, of) is Confidence.CONFIRMED]
        certain = ", ".join(f"[{code}](rules/{code}.md)" for code in sure) or "none"
        words = (facts.name, facts.told_by, facts.exchange, facts.named_by, certain, facts.source)
        text += f"| {' | '.join(word or '-' for word in words)} |\n"
    return text


def make_log_forms_page() -> str:
    """Return the page on what may be wrapped around the lines of a log: each form that is tried, with a line in it."""
    text = f"# Forms of logs\n\n{MADE}{LOG_FORMS_PREFACE}\n| form | the line LINE in it |\n|---|---|\n"
    for name, write in WRAPPERS.items():
        sample = repr(write(["LINE"]).rstrip("\n"))[1:-1].replace("|", "\\|")
        text += f"| {name} | `{sample}` |\n"
    return text


def make_pages() -> dict[str, str]:
    """Return all pages by their path below this folder."""
    pages = {
        "cli.md": make_cli_page(),
        "json.md": make_json_page(),
        "json-compare.md": make_comparison_page(),
        "json-whatif.md": make_whatif_page(),
        "json-triage.md": make_triage_page(),
        "tables.md": make_tables_page(),
        "rules/README.md": make_rule_index(),
        "precision.md": make_precision_page(),
        "proxies.md": make_proxies_page(),
        "protocols.md": make_protocols_page(),
        "log-forms.md": make_log_forms_page(),
    }
    pages |= {f"rules/{rule.code}.md": make_rule_page(rule) for rule in RULES}
    return pages | make_man_pages()


def find_drift(pages: dict[str, str]) -> list[str]:
    """Return the pages that differ from what the code says, and pages of rules and commands that are gone."""
    there = (*DOCS.glob("rules/*.md"), *DOCS.glob("man/*.1"))
    stray = {str(path.relative_to(DOCS)) for path in there} - set(pages)
    changed = {p for p, text in pages.items() if not (DOCS / p).exists() or (DOCS / p).read_text() != text}
    return sorted(stray | changed)


def main() -> None:
    """Write, or check; leave with 1 if a check found drift."""
    pages = make_pages()
    drift = find_drift(pages)
    if "--check" in sys.argv[1:]:
        for page in drift:
            sys.stderr.write(f"docs/{page} is not what the code says; run make docs\n")
        sys.exit(1 if drift else 0)
    for page in drift:
        path = DOCS / page
        if page in pages:
            path.parent.mkdir(exist_ok=True)
            path.write_text(pages[page])
        else:
            path.unlink()
        sys.stderr.write(f"docs/{page}\n")


if __name__ == "__main__":
    main()
