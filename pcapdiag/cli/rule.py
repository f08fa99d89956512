"""``pcapdiag rule``: the catalogue, or one root cause in full."""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Any

import click

from pcapdiag.base.errors import UsageError
from pcapdiag.base.suggest import did_you_mean
from pcapdiag.cli.choices import complete_rules
from pcapdiag.cli.options import format_option
from pcapdiag.cli.output import fit, fit_page, terminal_width

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcapdiag.rules._rule import Rule


@click.command()
@click.argument("code", required=False, shell_complete=complete_rules)
@format_option(("text", "json"), "For people, or an array with an object per root cause.")
def rule(code: str | None, format_: str) -> None:
    """List the root causes that are looked for, or explain CODE in full.

    CODE is a code (PD101) or a name (idle-close-race), or a part: all whose code begins so (PD1), or whose name holds
    it (idle-close), are listed.

    \b
      pcapdiag rule PD101
      pcapdiag rule idle-close
      pcapdiag rule --format json | jq -r '.[] | [.code, .title] | @tsv'
    """  # noqa: D301 - click reads the character \b
    from pcapdiag.rules import RULES  # noqa: PLC0415 - help must not wait for the rules

    found = RULES if code is None else _matching(RULES, code)
    if format_ == "json":
        click.echo(json.dumps([_to_json(r) for r in found], indent=2, ensure_ascii=False))
        return
    width = terminal_width()
    if code is not None and len(found) == 1:
        (only,) = found
        click.echo(fit(f"{only.code} {only.name}: {only.title}", width, hang=2))
        click.echo(f"Severity: {only.severity.name.lower()}\n\n{fit_page(inspect.getdoc(only) or '', width)}")
        return
    names = max(len(r.name) for r in found)
    for r in found:
        line = f"{r.code}  {r.name:<{names}}  {r.severity.name.lower():<7}  {r.title}"
        click.echo(fit(line, width, hang=len(line) - len(r.title)))


def _matching(rules: Sequence[type[Rule]], code: str) -> Sequence[type[Rule]]:
    """Return the rule of that code or name, else all of which it is a part."""
    wanted = code.strip().lower()
    found = [r for r in rules if wanted in {r.code.lower(), r.name}]
    found = found or [r for r in rules if wanted and (r.code.lower().startswith(wanted) or wanted in r.name)]
    if not found:
        known = [word for r in rules for word in (r.code, r.name)]
        msg = f"no rule {code!r}{did_you_mean(wanted, known) or '; `pcapdiag rule` lists them'}"
        raise UsageError(msg)
    return found


def _to_json(rule_class: type[Rule]) -> dict[str, Any]:
    return {
        "code": rule_class.code,
        "name": rule_class.name,
        "title": rule_class.title,
        "severity": rule_class.severity.name.lower(),
        "since": rule_class.since,
        "needs": rule_class.needs,
        "helped_by": rule_class.helped_by,
        "supersedes": rule_class.supersedes,
        "summary": rule_class.summary(),
        "sections": rule_class.sections(),
    }
