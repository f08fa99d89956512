"""``pcapdiag rule``: the catalogue, or one root cause in full."""

from __future__ import annotations

import inspect

import click

from pcapdiag.base.errors import UsageError


@click.command()
@click.argument("code", required=False)
def rule(code: str | None) -> None:
    """List the root causes that are looked for, or explain CODE in full.

    CODE is a code (PD101) or a name (idle-close-race).
    """
    from pcapdiag.rules import RULES  # noqa: PLC0415 - help must not wait for the rules

    if code is None:
        width = max(len(r.name) for r in RULES)
        for r in RULES:
            click.echo(f"{r.code}  {r.name:<{width}}  {r.severity.name.lower():<7}  {r.title}")
        return
    wanted = code.strip().lower()
    found = next((r for r in RULES if wanted in {r.code.lower(), r.name}), None)
    if found is None:
        msg = f"no rule {code!r}; 'pcapdiag rule' lists them"
        raise UsageError(msg)
    click.echo(f"{found.code} {found.name}: {found.title}\nSeverity: {found.severity.name.lower()}\n")
    click.echo(inspect.getdoc(found) or "")
