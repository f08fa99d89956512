"""YAML, JSON and TOML as a tree that knows the line of each value. Knows no key of any proxy.

Nodes are looked at, never built into objects: what is not asked for costs nothing, and no tag can run anything.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import yaml

from pcapdiag.proxy.conf.settings import ConfNote, Setting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")
_TOML_TABLE: Final = re.compile(r"\s*\[{1,2}\s*([\w.\"'@ -]{1,500}?)\s*\]{1,2}\s*(?:#.*)?$")
_TOML_KEY: Final = re.compile(
    r"\s*((?:[\w-]{1,200}|\"[^\"]{0,200}\"|'[^']{0,200}')(?:\s*\.\s*[\w\"'-]{1,200}){0,20})\s*="
)
_MOST_DEPTH = 100
"""Brackets within brackets; the scanner looks at all that are open for each token."""
MOST_CHARS = 2 << 20
"""The parser needs some seconds for that much."""


class _Loader(yaml.SafeLoader):
    """Gives up where brackets are nested as no configuration nests them."""

    def fetch_flow_collection_start(self, token: type[yaml.Token]) -> None:
        if self.flow_level > _MOST_DEPTH:
            raise yaml.scanner.ScannerError(None, None, "nested too deeply", self.get_mark())
        super().fetch_flow_collection_start(token)


@dataclass(frozen=True, slots=True)
class Node:
    """A value, a list or a mapping, and the file that it stands in."""

    yaml: yaml.Node
    file: str

    @property
    def source(self) -> str:
        """``file:line``."""
        return f"{self.file}:{self.yaml.start_mark.line + 1}"

    @property
    def text(self) -> str:
        """A scalar as written, without quotes; empty for what is none, and for null."""
        if not isinstance(self.yaml, yaml.ScalarNode) or self.yaml.tag == "tag:yaml.org,2002:null":
            return ""
        return str(self.yaml.value)

    def get(self, *path: str) -> Node | None:
        """Return what a path of keys leads to, None if there is nothing."""
        node: Node | None = self
        for key in path:
            node = next((value for name, value in node.items() if name == key), None) if node else None
        return node

    def items(self) -> Iterator[tuple[str, Node]]:
        """Yield the keys of a mapping and what they hold."""
        if isinstance(self.yaml, yaml.MappingNode):
            for key, value in self.yaml.value:
                if isinstance(key, yaml.ScalarNode):
                    yield str(key.value), Node(value, self.file)

    def elements(self) -> Iterator[Node]:
        """Yield the elements of a list."""
        if isinstance(self.yaml, yaml.SequenceNode):
            for element in self.yaml.value:
                yield Node(element, self.file)

    def below(self) -> Iterator[tuple[str, Node]]:
        """Yield what is in this node at any depth, in the order of the text, with the key that leads to it.

        Elements of a list have the key of the list. What an alias repeats is yielded once, so that it takes as long as
        the text is.
        """
        seen = {id(self.yaml)}
        waiting = [("", self)]
        while waiting:
            name, node = waiting.pop()
            yield name, node
            inner = [*node.items(), *((name, element) for element in node.elements())]
            for key, value in reversed(inner):
                if id(value.yaml) not in seen:
                    seen.add(id(value.yaml))
                    waiting.append((key, value))


def read_tree(text: str, file: str) -> tuple[tuple[Node, ...], tuple[ConfNote, ...]]:
    """Read YAML or JSON.

    Parameters
    ----------
    text : str
        The content.
    file : str
        How sources name it.

    Returns
    -------
    tuple of (tuple of Node, tuple of ConfNote)
        The documents, and what stopped the reading.
    """
    if len(text) > MOST_CHARS:
        return (), (ConfNote(file, f"not read: more than {MOST_CHARS >> 20} Mi characters"),)
    if text.lstrip().startswith(("{", "[")):
        # JSON may be indented with tabs, YAML may not; in a JSON string a tab is written \t.
        text = text.replace("\t", " ")
    documents: list[Node] = []
    try:
        documents += (Node(node, file) for node in yaml.compose_all(text, Loader=_Loader) if node is not None)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        return tuple(documents), (ConfNote(f"{file}:{mark.line + 1}" if mark else file, f"YAML: {error.problem}"),)
    except yaml.YAMLError as error:
        return tuple(documents), (ConfNote(file, f"YAML: {error}"),)
    except RecursionError:
        return tuple(documents), (ConfNote(file, "YAML: nested too deeply"),)
    return tuple(documents), ()


def read_toml(text: str, file: str) -> tuple[tuple[Node, ...], tuple[ConfNote, ...]]:
    """Read TOML as the same tree.

    Parameters
    ----------
    text : str
        The content.
    file : str
        How sources name it.

    Returns
    -------
    tuple of (tuple of Node, tuple of ConfNote)
        The one document, and what stopped the reading. Lines are those of tables and keys that begin one.
    """
    if len(text) > MOST_CHARS:
        return (), (ConfNote(file, f"not read: more than {MOST_CHARS >> 20} Mi characters"),)
    try:
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        return (), (ConfNote(file, f"TOML: {error or 'nested too deeply'}"),)
    return (Node(_as_yaml(tables, (), _toml_lines(text), 0), file),), ()


def _toml_lines(text: str) -> dict[tuple[str, ...], list[int]]:
    """Return the lines, from 0, on which tables and keys begin; of what is given several times, each."""
    found: dict[tuple[str, ...], list[int]] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines()):
        if header := _TOML_TABLE.match(line):
            table = tuple(part.strip(" \"'") for part in header[1].split("."))
            found.setdefault(table, []).append(number)
        elif key := _TOML_KEY.match(line):
            found.setdefault((*table, *(part.strip(" \"'") for part in key[1].split("."))), []).append(number)
    return found


def _as_yaml(value: object, path: tuple[str, ...], lines: dict[tuple[str, ...], list[int]], at: int) -> yaml.Node:
    """Return a value of TOML as the parser of YAML would have it; `at` is the line of what it stands in."""
    # Of what is given several times, as elements of a list are, the first that is not before what it stands in.
    own = lines.get(path, [])
    n_before = bisect_left(own, at)
    at = own[n_before] if n_before < len(own) else at
    mark = yaml.Mark("", 0, at, 0, None, 0)
    if isinstance(value, dict):
        pairs = [
            (yaml.ScalarNode("tag:yaml.org,2002:str", key, mark), _as_yaml(inner, (*path, key), lines, at))
            for key, inner in value.items()
        ]
        return yaml.MappingNode("tag:yaml.org,2002:map", pairs, mark)
    if isinstance(value, list):
        elements = []
        for element in value:
            elements.append(_as_yaml(element, path, lines, at))
            at = elements[-1].start_mark.line + 1 if isinstance(element, dict) else at
        return yaml.SequenceNode("tag:yaml.org,2002:seq", elements, mark)
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return yaml.ScalarNode("tag:yaml.org,2002:str", text, mark)


def setting(node: Node | None, read: Callable[[str], T], default: Setting[T], notes: list[ConfNote]) -> Setting[T]:
    """Return what a node says, or the default.

    Parameters
    ----------
    node : Node or None
        The value.
    read : callable
        Makes a value of its text; raises ValueError if it cannot.
    default : Setting
        If there is no node, or its text is no such value.
    notes : list of ConfNote
        Gets a note in the latter case.

    Returns
    -------
    Setting
        The value with its line.
    """
    if node is None or not node.text:
        return default
    try:
        return Setting(read(node.text), node.source)
    except ValueError as error:
        notes.append(ConfNote(node.source, str(error)))
        return default
