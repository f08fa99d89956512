"""``pcapdiag schema``: what a program may rely on in the JSON documents."""

from __future__ import annotations

import json

import click

from pcapdiag.cli.choices import Choice


@click.command()
@click.argument("document", type=Choice(["report", "comparison", "whatif", "triage"]))
def schema(document: str) -> None:
    """Print the JSON Schema of what analyze (with a capture and without), compare or whatif write with --format json.

    \b
      pcapdiag schema report > report.schema.json
    """  # noqa: D301 - click reads the character \b
    from pcapdiag.report import schema as schemas  # noqa: PLC0415 - help must not wait for the model

    made = {
        "report": schemas.report_schema,
        "comparison": schemas.comparison_schema,
        "whatif": schemas.whatif_schema,
        "triage": schemas.triage_schema,
    }
    click.echo(json.dumps(made[document](), indent=2))
