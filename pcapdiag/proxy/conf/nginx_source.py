"""nginx.conf as a tree of directives, includes expanded, each with the file and line it stands on.

crossplane reads one file at a time; which files belong together is decided here, because a configuration is often
looked at on another machine than its own: nothing is read but what lies in the folder of the file that was given, or
in the one text that `nginx -T` wrote. Knows what no directive means.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

import crossplane
from crossplane.ext.lua import LuaBlockPlugin
from crossplane.lexer import register_external_lexer

from pcapdiag.proxy.conf.settings import ConfNote

MOST_BYTES = 8 << 20
"""All files together: some 200 000 lines, a minute of parsing."""
_MOST_INCLUDES = 2000
_MOST_PATTERNS = 200
"""Includes with a star: each looks at all names of a folder."""
_MOST_DIRECTIVES = 400_000
_MOST_DEPTH = 64
_OPAQUE = frozenset({"types", "map", "geo", "split_clients", "charset_map", "stream", "mail"})
"""Blocks whose contents are no directives of a proxy; a `map` is kept, but its includes are not followed."""
_FOREIGN_FOLDERS = ("/etc/nginx", "/usr/local/nginx/conf", "/usr/local/openresty/nginx/conf", "/usr/local/etc/nginx")
"""Where a copied configuration may come from: an include below one of these means the copy."""
_SECTION = re.compile(r"^# configuration file (.+):\s*$", re.MULTILINE)
_STARS = re.compile(r"\*{2,}")
_MAGIC = re.compile(r"[*?\[]")
_ESCAPED = re.compile(r"\\([\\\"'trn])")
_UNESCAPED = {"t": "\t", "r": "\r", "n": "\n"}
_UNTERMINATED = 'is not terminated by ";"'


_MORE_LUA = (
    "balancer_by_lua_block",
    "exit_worker_by_lua_block",
    "precontent_by_lua_block",
    "proxy_ssl_certificate_by_lua_block",
    "proxy_ssl_verify_by_lua_block",
    "server_rewrite_by_lua_block",
    "ssl_client_hello_by_lua_block",
)
"""Blocks of Lua that came after crossplane; Lua that is read as directives may hide the rest of the file."""
register_external_lexer(_MORE_LUA, LuaBlockPlugin().lex)


@dataclass(frozen=True, slots=True)
class Directive:
    """One directive: its name, its arguments without quotes, where it stands, and what its braces hold."""

    name: str
    args: tuple[str, ...]
    source: str
    block: tuple[Directive, ...] | None = None


@dataclass(slots=True)
class _Files:
    """What may be read, by the name that an include gives it: files of a folder, or sections of a dump."""

    root: Path
    """The folder of the file that was given; for a dump, where its sections lie for crossplane."""
    main: str
    sections: dict[str, Path] = field(default_factory=dict)
    """Name in the dump -> file; empty: no dump."""

    def matching(self, pattern: str) -> tuple[str, ...]:
        """Return the files that an include means, in nginx's order; only what may be read."""
        folder = PurePosixPath(self.main).parent
        if self.sections:
            wanted = PurePosixPath(folder, pattern)
            return tuple(
                name
                for name in sorted(self.sections)
                if len(PurePosixPath(name).parts) == len(wanted.parts) and fnmatchcase(name, str(wanted))
            )
        home = self.root.absolute()
        for foreign in _FOREIGN_FOLDERS:
            if pattern.startswith(f"{foreign}/") and not Path(pattern).is_relative_to(home):
                pattern = pattern.removeprefix(f"{foreign}/")
        if pattern.startswith("/"):
            if not Path(pattern).is_relative_to(home):
                return ()
            pattern = str(Path(pattern).relative_to(home))
        # nginx's glob knows no `**`; Python's would search every folder below.
        pattern = _STARS.sub("*", pattern)
        if ".." in Path(pattern).parts or not Path(pattern).parts:
            return ()
        try:
            found = sorted(self.root.glob(pattern)) if _MAGIC.search(pattern) else [self.root / pattern]
            # A link may lead out of the folder.
            return tuple(str(p) for p in found if p.is_file() and p.resolve().is_relative_to(home.resolve()))
        except OSError:
            # A name that no file can have.
            return ()

    def path(self, name: str) -> Path:
        """Return the file to open."""
        return self.sections.get(name) or Path(name)


@dataclass(slots=True)
class _Expansion:
    """One reading: what was spent of the bounds, and what was odd."""

    files: _Files
    notes: list[ConfNote] = field(default_factory=list)
    parsed: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    n_bytes: int = 0
    n_includes: int = 0
    n_patterns: int = 0
    are_includes_full: bool = False
    n_directives: int = 0
    is_full: bool = False

    def note(self, source: str, text: str) -> None:
        self.notes.append(ConfNote(source, text))

    def statements(self, name: str) -> list[dict[str, Any]]:
        """Return what crossplane makes of one file; its errors become notes."""
        if name in self.parsed:
            return self.parsed[name]
        path = self.files.path(name)
        self.parsed[name] = []
        try:
            self.n_bytes += path.stat().st_size
        except OSError as error:
            self.note(name, f"cannot be read: {error.strerror}")
            return []
        if self.n_bytes > MOST_BYTES:
            self.note(name, f"not read: more than {MOST_BYTES >> 20} MiB of configuration")
            return []
        payload = _parse(path)
        for found in payload["errors"]:
            # crossplane appends the file, and the line where it knows it.
            text = str(found["error"]).split(f" in {path}")[0] or "unexpected end of file"
            if "recursion" in text:
                text = "nested too deeply"
            self.note(f"{name}:{found['line']}" if found["line"] else name, text)
        self.parsed[name] = payload["config"][0]["parsed"]
        return self.parsed[name]

    def expand(self, name: str, within: tuple[str, ...]) -> tuple[Directive, ...]:
        """Return the directives of one file with its includes expanded."""
        return self._convert(self.statements(name), name, (*within, name), depth=len(within))

    def _convert(
        self, statements: list[dict[str, Any]], name: str, within: tuple[str, ...], depth: int
    ) -> tuple[Directive, ...]:
        made: list[Directive] = []
        for statement in statements:
            directive, args = str(statement["directive"]).lstrip("\ufeff"), tuple(map(unescape, statement["args"]))
            source = f"{name}:{statement['line']}"
            self.n_directives += 1
            if depth > _MOST_DEPTH or self.n_directives > _MOST_DIRECTIVES:
                if not self.is_full:
                    self.note(source, "not read from here on: too many directives, or nested too deeply")
                self.is_full = True
                break
            if directive == "include" and "block" not in statement:
                made += self._include(args, source, within)
                continue
            block = statement.get("block")
            inner = None
            if block is not None:
                follow = directive not in _OPAQUE
                inner = self._convert(block, name, within, depth + 1) if follow else _flat(block, name)
            made.append(Directive(directive, args, source, inner))
        return tuple(made)

    def _include(self, args: tuple[str, ...], source: str, within: tuple[str, ...]) -> list[Directive]:
        pattern = args[0] if args else ""
        self.n_includes += 1
        if self.n_includes > _MOST_INCLUDES or self.n_patterns > _MOST_PATTERNS:
            if not self.are_includes_full:
                self.note(source, f"include {pattern}: not read from here on, more than {_MOST_INCLUDES} includes")
            self.are_includes_full = True
            return []
        self.n_patterns += _MAGIC.search(pattern) is not None
        names = self.files.matching(pattern) if "\0" not in pattern else ()
        if not names and not _MAGIC.search(pattern):
            self.note(source, f"include {pattern}: not read, it is not in the folder of the configuration")
        elif not names and pattern.startswith("/"):
            self.note(source, f"include {pattern}: nothing like it in the folder of the configuration")
        made: list[Directive] = []
        self.n_includes += max(len(names) - 1, 0)
        if self.n_includes > _MOST_INCLUDES:
            self.note(source, f"include {pattern}: not all of it is read, more than {_MOST_INCLUDES} includes")
            names = names[: max(len(names) - (self.n_includes - _MOST_INCLUDES), 0)]
        for name in names:
            if name in within:
                self.note(source, f"include {pattern}: {name} includes itself")
            else:
                made += self.expand(name, within)
        return made


def is_dump(text: str) -> bool:
    """Whether this is what ``nginx -T`` printed: every file below a line that names it."""
    return _SECTION.search(text) is not None


def dump_sections(text: str) -> dict[str, str]:
    """Return the files in what ``nginx -T`` printed, by name; empty where it is no such text."""
    heads = list(_SECTION.finditer(text))
    ends = [*(head.start() for head in heads[1:]), len(text)]
    sections: dict[str, str] = {}
    for head, end in zip(heads, ends, strict=False):
        # The line after the head is the first of the file.
        sections.setdefault(head[1], text[head.end() + 1 : end])
    return sections


def unescape(text: str) -> str:
    """Return a token as nginx takes it (ngx_conf_read_token); crossplane leaves most backslashes."""
    return _ESCAPED.sub(lambda match: _UNESCAPED.get(match[1], match[1]), text)


def read_directives(path: Path, text: str) -> tuple[tuple[Directive, ...], tuple[ConfNote, ...]]:
    """Read a configuration and what it includes.

    Parameters
    ----------
    path : Path
        The main file, or what ``nginx -T`` printed.
    text : str
        Its content, to tell the two apart.

    Returns
    -------
    tuple of (tuple of Directive, tuple of ConfNote)
        The top level, and what could not be read.
    """
    sections = dump_sections(text)
    if not sections:
        return _expand(_Files(root=path.parent, main=str(path)))
    with tempfile.TemporaryDirectory(prefix="pcapdiag-") as folder:
        files = _Files(root=Path(folder), main=next(iter(sections)))
        for number, (name, content) in enumerate(sections.items()):
            section = Path(folder, f"{number}.conf")
            section.write_text(content, encoding="utf-8", errors="replace")
            files.sections[name] = section
        return _expand(files)


def _expand(files: _Files) -> tuple[tuple[Directive, ...], tuple[ConfNote, ...]]:
    expansion = _Expansion(files)
    return expansion.expand(files.main, ()), tuple(expansion.notes)


def _parse(path: Path) -> Any:
    """Parse one file: strictly about what ends a directive, leniently about the number of arguments.

    crossplane drops a directive whose arguments it does not know, and nginx has learned new ones since; but a semicolon
    that is missing shifts everything behind it, and only the strict way notices.
    """
    options = {"single": True, "check_ctx": False}
    strict = crossplane.parse(str(path), check_args=True, **options)
    if not strict["errors"] or any(_UNTERMINATED in str(e["error"]) for e in strict["errors"]):
        return strict
    return crossplane.parse(str(path), check_args=False, **options)


def _flat(statements: list[dict[str, Any]], name: str) -> tuple[Directive, ...]:
    """Return the entries of a block that is only looked things up in."""
    return tuple(
        Directive(str(s["directive"]), tuple(map(unescape, s["args"])), f"{name}:{s['line']}") for s in statements
    )
