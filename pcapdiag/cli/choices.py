"""Values that are chosen from a list: the nearest is suggested, and the shell completes codes of rules."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from pcapdiag.base.suggest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator


class Choice(click.Choice[str]):
    """One of some words; who mistyped is told the nearest."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        """Return what click says of a value that is none of them, and the nearest."""
        said = super().get_invalid_choice_message(value, ctx)
        return said.removesuffix(".") + (did_you_mean(str(value), self.choices) or ".")


def known_codes() -> Iterator[tuple[str, str]]:
    """Yield code and name of each rule, by the names of their modules: the rules themselves take long to load."""
    for module in sorted((Path(__file__).resolve().parent.parent / "rules").glob("pd*.py")):
        code, _, name = module.stem.partition("_")
        yield code.upper(), name.replace("_", "-")


def complete_codes(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the codes that the last of some, with commas between them, may become."""
    before, comma, last = incomplete.rpartition(",")
    return [
        CompletionItem(f"{before}{comma}{code}", help=name)
        for code, name in known_codes()
        if code.startswith(last.upper())
    ]


def complete_rules(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the codes, or the names, that begin so."""
    names = [CompletionItem(name, help=code) for code, name in known_codes() if name.startswith(incomplete.lower())]
    return [*complete_codes(ctx, param, incomplete), *(names if incomplete else ())]
