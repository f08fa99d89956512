"""``pcapdiag schema``: what a program may rely on in the JSON documents."""

from __future__ import annotations

import json

import click

from pcapdiag.cli.choices import Choice


@click.command()
@click.argument("document", type=Choice(["report", "comparison", "whatif", "triage", "config"]))
@click.pass_context
def schema(ctx: click.Context, document: str) -> None:
    """Print the JSON Schema of what analyze (with a capture and without), compare or whatif write with --format json.

    config: of pcapdiag.toml.

    \b
      pcapdiag schema report > report.schema.json
    """  # noqa: D301 - click reads the character \b
    if document == "config":
        from pcapdiag.cli.config_schema import config_schema  # noqa: PLC0415 - the others need none of it

        group = ctx.find_root().command
        assert isinstance(group, click.Group)  # noqa: S101 - what all commands belong to
        click.echo(json.dumps(config_schema(group), indent=2))
        return
    from pcapdiag.report import schema as schemas  # noqa: PLC0415 - help must not wait for the model

    made = {
        "report": schemas.report_schema,
        "comparison": schemas.comparison_schema,
        "whatif": schemas.whatif_schema,
        "triage": schemas.triage_schema,
    }
    click.echo(json.dumps(made[document](), indent=2))
