"""``pcapdiag attach``: a bundle to a ticket, or a dry run of it."""

from __future__ import annotations

import os

import click

from pcapdiag.base.errors import UsageError
from pcapdiag.cli.choices import Choice
from pcapdiag.cli.declare import OptionPlace, command_option
from pcapdiag.cli.options import quiet_option
from pcapdiag.privacy.escape import visible


@click.command()
@click.argument("bundle", metavar="BUNDLE", type=click.Path(dir_okay=False))
@command_option(
    "--to",
    "url",
    required=True,
    metavar="URL",
    help="The ticket as the browser shows it, or a webhook.",
)
@command_option(
    "--kind",
    type=Choice(["auto", "jira", "jira-cloud", "github", "gitlab", "webhook"]),
    default="auto",
    show_default=True,
    help="What the URL leads to, where its form does not say.",
)
@command_option(
    "--release", default="", metavar="TAG", help="GitHub only: the release that takes the bundle as a file."
)
@command_option("--dry-run", is_flag=True, help="Say what would be sent, and send nothing.")
@command_option(
    "--no-redact", place=OptionPlace.LINE, is_flag=True, help="Attach a bundle that was made with --no-redact."
)
@quiet_option("No progress on stderr.")
def attach(*, bundle: str, url: str, kind: str, release: str, dry_run: bool, no_redact: bool, quiet: bool) -> None:
    """Attach a bundle to a ticket: Jira, GitHub, GitLab, or a webhook.

    BUNDLE is what `pcapdiag analyze --bundle` wrote. A ticket gets the file and one comment with the verdict; a
    command that failed or was interrupted can be repeated, and writes no second comment.

    \b
      pcapdiag attach incident.zip --to https://acme.atlassian.net/browse/OPS-12 --dry-run
      pcapdiag attach incident.zip --to https://github.com/acme/proxy/issues/7 --release incidents
      pcapdiag attach incident.zip --to https://gitlab.com/acme/ops/proxy/-/issues/7
      pcapdiag attach incident.zip --to https://hooks.example.com/incidents

    \b
    Credentials come from the environment:
      PCAPDIAG_JIRA_TOKEN     token or password; with PCAPDIAG_JIRA_USER for Jira Cloud
      PCAPDIAG_GITHUB_TOKEN   token that may write issues (and contents, for --release)
      PCAPDIAG_GITLAB_TOKEN   token of scope api
      PCAPDIAG_WEBHOOK_TOKEN  sent as a bearer token, if set
    or from the keyring: keyring set pcapdiag HOST
    """  # noqa: D301 - click reads the character \b
    from pcapdiag.ticket.attach.archive import open_bundle  # noqa: PLC0415 - help needs none of this
    from pcapdiag.ticket.attach.credentials import find_credentials, require_credentials  # noqa: PLC0415 - the same
    from pcapdiag.ticket.attach.plan import check_release, plan_lines  # noqa: PLC0415 - the same
    from pcapdiag.ticket.attach.targets import parse_target  # noqa: PLC0415 - the same

    target = parse_target(url, kind)
    check_release(target, release)
    with open_bundle(bundle) as checked:
        if not checked.manifest.redacted and not no_redact:
            msg = f"{bundle} was made with --no-redact: it may hold credentials. Make it without, or say --no-redact"
            raise UsageError(msg)
        if dry_run:
            found = find_credentials(target, os.environ)
            for line in plan_lines(target, checked, release, found.source if found else ""):
                click.echo(visible(line))
            return
        from pcapdiag.ticket.attach.run import attach_bundle  # noqa: PLC0415 - only here a library loads

        def say(text: str) -> None:
            if not quiet:
                click.echo(f"pcapdiag: {visible(text)}", err=True)

        place = attach_bundle(target, checked, require_credentials(target, os.environ), release=release, say=say)
    click.echo(place)
