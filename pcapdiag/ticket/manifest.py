"""MANIFEST of a bundle: what it holds, with hashes, and which report it is.

A text that `sha256sum -c MANIFEST` checks on any machine; the facts that it does not know stand in comment lines.
Both who writes bundles and who reads them use this module; it knows nothing of ZIP files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pcapdiag.base.errors import UsageError

NAME = "MANIFEST"
FORMAT = 1
MAX_BYTES = 64 << 10
MAX_MEMBERS = 64

_HEADER = f"# pcapdiag bundle, format {FORMAT}; to check it: sha256sum -c {NAME}"
_IDENTIFIER = re.compile(r"[0-9a-z][0-9a-z-]{7,63}", re.ASCII)
_TOOL = re.compile(r"pcapdiag [0-9A-Za-z.+-]{1,40}", re.ASCII)
# Names are this program's own, whatever the capture says: nothing climbs out of a folder, nothing is hidden.
_MEMBER = re.compile(r"(?:[a-z]+/)?[a-z0-9][a-z0-9-]*(?:\.[a-z0-9]+){0,2}", re.ASCII)
_FACT = re.compile(r"# ([a-z]+): (.*)")
_SIZE = re.compile(r"([0-9]{1,12}) (.*)", re.ASCII)
_SUM = re.compile(r"([0-9a-f]{64})  (.*)", re.ASCII)
_YES_NO = {"yes": True, "no": False}


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a bundle."""

    name: str
    n_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a bundle says of itself.

    Attributes
    ----------
    report : str
        Identifier of the report, which the evidence capture names too.
    tool : str
        Program and version that wrote it.
    redacted, anonymized : bool
        What was kept back.
    members : tuple of Member
        All files but the manifest, in the order of the bundle.
    """

    report: str
    tool: str
    redacted: bool
    anonymized: bool
    members: tuple[Member, ...]


def format_manifest(manifest: Manifest) -> str:
    """Return the text of a manifest.

    Raises
    ------
    ValueError
        Something in it could not be read back.
    """
    facts = {
        "report": manifest.report,
        "tool": manifest.tool,
        "redacted": "yes" if manifest.redacted else "no",
        "anonymized": "yes" if manifest.anonymized else "no",
    }
    lines = [_HEADER, *(f"# {key}: {value}" for key, value in facts.items())]
    lines += [f"# size: {m.n_bytes} {m.name}" for m in manifest.members]
    lines += [f"{m.sha256}  {m.name}" for m in manifest.members]
    text = "\n".join(lines) + "\n"
    if _parse(text) != manifest:
        msg = "a manifest must read back as it was"
        raise ValueError(msg)
    return text


def parse_manifest(data: bytes) -> Manifest:
    """Return what a manifest says; it may come from anywhere.

    Parameters
    ----------
    data : bytes
        At most `MAX_BYTES`.

    Returns
    -------
    Manifest
        With names that are safe and unique.

    Raises
    ------
    UsageError
        It is no manifest of this program.
    """
    manifest = _parse(data.decode("ascii", errors="replace")) if len(data) <= MAX_BYTES else None
    if manifest is None:
        msg = f"its {NAME} is not one that pcapdiag wrote; make the bundle again with `pcapdiag analyze --bundle`"
        raise UsageError(msg)
    return manifest


def _parse(text: str) -> Manifest | None:
    header, *lines = text.split("\n")
    if header != _HEADER or not lines or lines.pop() != "":
        return None
    facts: dict[str, str] = {}
    sizes: dict[str, int] = {}
    sums: dict[str, str] = {}
    for line in lines:
        fact, digest = _FACT.fullmatch(line), _SUM.fullmatch(line)
        if fact and fact[1] == "size":
            size = _SIZE.fullmatch(fact[2])
            if size is None or size[2] in sizes:
                return None
            sizes[size[2]] = int(size[1])
        elif fact and fact[1] not in facts:
            facts[fact[1]] = fact[2]
        elif digest and digest[2] not in sums:
            sums[digest[2]] = digest[1]
        else:
            return None
    names = list(sums)
    if names != list(sizes) or not 0 < len(names) <= MAX_MEMBERS or not all(map(_is_member_name, names)):
        return None
    redacted, anonymized = _YES_NO.get(facts.get("redacted", "")), _YES_NO.get(facts.get("anonymized", ""))
    if (
        facts.keys() != {"report", "tool", "redacted", "anonymized"}
        or not _IDENTIFIER.fullmatch(facts["report"])
        or not _TOOL.fullmatch(facts["tool"])
        or redacted is None
        or anonymized is None
    ):
        return None
    members = tuple(Member(name, sizes[name], sums[name]) for name in names)
    return Manifest(facts["report"], facts["tool"], redacted, anonymized, members)


def _is_member_name(name: str) -> bool:
    return name != NAME and len(name) <= 64 and _MEMBER.fullmatch(name) is not None
