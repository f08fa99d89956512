"""``pcapdiag completion``: the script that lets a shell complete commands, options and codes."""

from __future__ import annotations

import click

from pcapdiag.cli.choices import Choice

VARIABLE = "_PCAPDIAG_COMPLETE"
_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=Choice(_SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that lets a shell complete commands, options, values and codes.

    \b
    Once for each user; the next shell knows it:
      bash  pcapdiag completion bash > ~/.local/share/bash-completion/completions/pcapdiag
      zsh   pcapdiag completion zsh > ~/.zfunc/_pcapdiag
            with fpath+=~/.zfunc before compinit in ~/.zshrc
      fish  pcapdiag completion fish > ~/.config/fish/completions/pcapdiag.fish
    """  # noqa: D301 - click reads the character \b
    from click.shell_completion import get_completion_class  # noqa: PLC0415 - help needs none

    made = get_completion_class(shell)
    assert made is not None  # noqa: S101 - click has all that the argument admits
    click.echo(made(ctx.find_root().command, {}, "pcapdiag", VARIABLE).source())
