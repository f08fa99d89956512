"""Other names for files: what kind of file it is can be told, what somebody called it cannot."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Final

_KINDS: Final = {
    **dict.fromkeys(("pcap", "pcapng", "cap", "dmp"), "capture"),
    **dict.fromkeys(("log", "jsonl"), "log"),
    **dict.fromkeys(("conf", "cfg", "yaml", "yml", "json", "toml"), "configuration"),
}
_PACKED: Final = frozenset(("gz", "bz2", "xz", "zst", "lz4"))
_LEAST_STEM: Final = 4
_USUAL_STEM: Final = re.compile(
    r"(?:access|app|after|before|capture|client|conf|dump|error|http|log|nginx|proxy|server|test|trace|upstream|[0-9]"
    r"|[-_.])*"
)


def alias_of(name: str, number: int) -> str:
    """Return another name for a file: its kind, a number, and those of its endings that everybody has.

    Parameters
    ----------
    name : str
        Last part of its path.
    number : int
        Which of the files it is.
    """
    endings = [part for part in name.lower().split(".")[1:] if part in _KINDS or part in _PACKED]
    kind = next((_KINDS[part] for part in endings if part in _KINDS), "file")
    return ".".join((f"{kind}-{number}", *endings))


def stem_of(path: str) -> str:
    """Return the name of a file without what follows its first dot, in small letters."""
    return PurePath(path).name.partition(".")[0].lower()


def is_telling_stem(stem: str) -> bool:
    """Whether the stem of a file's name is more than a word that everybody gives to captures and logs."""
    return len(stem) >= _LEAST_STEM and not _USUAL_STEM.fullmatch(stem)
