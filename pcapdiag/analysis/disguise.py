"""The same analysis and the same findings, with other addresses and names: whatever is made of them is anonymous.

Knows where tables, findings and logs keep addresses and names; how they are mapped is the anonymizer's affair.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from pcapdiag.analysis.model import Analysis
from pcapdiag.base.findings import RuleFacts
from pcapdiag.base.tables import ByteStore, Table
from pcapdiag.base.walk import map_texts
from pcapdiag.engine.tcp.uid import connection_uid
from pcapdiag.proxy.join.pairs import is_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcapdiag.analysis.model import Loss
    from pcapdiag.base.findings import Finding
    from pcapdiag.base.tables import ByteSource
    from pcapdiag.privacy.anonymize import Anonymizer

_T = TypeVar("_T")

_HOST_FIELDS = frozenset(("host", "server", "upstream_peer", "peer", "block", "addr", "server_name", "server_names"))
_OUR_PROSE = frozenset(("title", "remedy", "refuted_by"))
_MOST_REMEMBERED = 1 << 16


class _OtherTexts(ByteStore):
    """The texts of a capture with other names in them, each as long as before."""

    def __init__(self, source: ByteSource, anonymizer: Anonymizer) -> None:
        super().__init__()
        self._source = source
        self._anonymizer = anonymizer

    def read(self, offset: int, length: int) -> bytes:
        text = self._source.read(offset, length).decode("latin-1")
        return self._anonymizer.text(text, same_length=True).encode("latin-1")


def teach(anonymizer: Anonymizer, analysis: Analysis, findings: Sequence[Finding], paths: Iterable[str]) -> None:
    """Tell the anonymizer what names, connections and files there are, before it maps a text.

    Parameters
    ----------
    anonymizer : Anonymizer
        Learns them.
    analysis : Analysis
        All tables, as captured.
    findings : sequence of Finding
        What they show.
    paths : iterable of str
        Files that were read beside the captures.
    """
    anonymizer.learn(
        names={*_hosts_of_requests(analysis), *_names_in(analysis.log), *_names_in(analysis.settings)},
        uids=_uids(analysis, findings, anonymizer),
        paths=[*(file.path for capture in analysis.captures for file in capture.files), *paths],
        groups=_groups(analysis),
        texts=_texts_in((analysis.log, analysis.settings, findings)),
    )


def _groups(analysis: Analysis) -> Iterator[str]:
    """Yield the names of groups of peers, and those that logs and configurations of other proxies have for servers."""
    if analysis.settings is not None:
        yield from (block.name for block in analysis.settings.upstreams)
        for server in analysis.settings.own:
            yield from (server.block.rpartition("/")[2], server.name.rpartition("/")[2])
    for joined in analysis.log.entries if analysis.log is not None else ():
        if is_name(joined.entry.upstream):
            yield from joined.entry.upstream.split("/")


def disguise_analysis(analysis: Analysis, anonymizer: Anonymizer) -> Analysis:
    """Return the analysis with other addresses and names.

    Parameters
    ----------
    analysis : Analysis
        As captured.
    anonymizer : Anonymizer
        That was taught.

    Returns
    -------
    Analysis
        Nothing in it tells of the original ones.
    """
    texts = _OtherTexts(analysis.texts, anonymizer)
    kept: dict[str, Any] = {
        # First of all: afterwards their addresses are known, in whatever notation a text has them.
        "connections": _other_connections(analysis.connections, anonymizer),
        "texts": texts,
        "exchanges": analysis.exchanges,
        "key_segments": analysis.key_segments,
        "legs": analysis.legs,
    }
    rest: dict[str, Any] = {
        f.name: getattr(analysis, f.name) for f in dataclasses.fields(analysis) if f.name not in kept
    }
    for name in ("losses", "truncated"):
        rest[name] = tuple(_with_other_errors(loss, anonymizer) for loss in rest[name])
    # Which frames they are is all that is still asked of them; their bytes hold addresses and more.
    nobody = (0, 0, -1)
    rest["asides"] = tuple(dataclasses.replace(a, src=nobody, dst=nobody, data=b"") for a in analysis.asides)
    return Analysis(**kept, **disguise(rest, anonymizer))


def _with_other_errors(loss: Loss, anonymizer: Anonymizer) -> Loss:
    """Return the loss with other addresses in the ICMP errors that are about it."""
    if not loss.icmp:
        return loss
    errors = tuple(
        dataclasses.replace(
            error,
            sender=anonymizer.address(*error.sender),
            src=(*anonymizer.address(*error.src[:2]), error.src[2]),
            dst=(*anonymizer.address(*error.dst[:2]), error.dst[2]),
        )
        for error in loss.icmp
    )
    return dataclasses.replace(loss, icmp=errors)


def disguise(value: _T, anonymizer: Anonymizer) -> _T:
    """Return plain data with other addresses and names in every text of it.

    Parameters
    ----------
    value : object
        Dataclasses, named tuples, tuples, lists, dicts, texts and numbers.
    anonymizer : Anonymizer
        That was taught.

    Returns
    -------
    object
        Of the same kind.
    """
    remembered = lru_cache(maxsize=_MOST_REMEMBERED)(anonymizer.text)

    def other(text: str, field: str) -> str:
        return anonymizer.text(text, guess=False) if field in _OUR_PROSE else remembered(text)

    return map_texts(value, other, leave=(RuleFacts,))


def _other_connections(connections: Table, anonymizer: Anonymizer) -> Table:
    rows = connections.rows.copy()
    for side in ("orig", "resp"):
        halves = np.stack([rows[f"{side}_hi"], rows[f"{side}_lo"]], axis=1)
        known, place = np.unique(halves, axis=0, return_inverse=True)
        images = np.array([anonymizer.address(hi, lo) for hi, lo in known.tolist()], dtype=np.uint64).reshape(-1, 2)
        rows[f"{side}_hi"], rows[f"{side}_lo"] = images[place.reshape(-1)].T
    return Table(connections.schema, rows)


def _hosts_of_requests(analysis: Analysis) -> Iterator[str]:
    for chunk in analysis.exchanges.chunks():
        with_host = chunk.rows[(chunk["text_offset"] >= 0) & (chunk["host_len"] > 0)]
        offsets = (with_host["text_offset"] + with_host["target_len"]).tolist()
        for offset, length in zip(offsets, with_host["host_len"].tolist(), strict=True):
            yield analysis.texts.read(offset, length).decode("latin-1")


def _texts_in(value: Any) -> list[str]:
    """Return every text of plain data once."""
    texts: dict[str, None] = {}

    def note(text: str, _: str) -> str:
        texts[text] = None
        return text

    map_texts(value, note, leave=(RuleFacts,))
    return list(texts)


def _names_in(value: Any, field: str = "") -> Iterator[str]:
    """Yield what stands in fields that hold names of machines."""
    if isinstance(value, str):
        if field in _HOST_FIELDS and value:
            yield value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for item in dataclasses.fields(value):
            yield from _names_in(getattr(value, item.name), item.name)
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        for name, item in zip(value._fields, value, strict=True):
            yield from _names_in(item, name)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _names_in(item, field)
    elif isinstance(value, tuple | list | frozenset | set):
        for item in value:
            yield from _names_in(item, field)


def _uids(analysis: Analysis, findings: Sequence[Finding], anonymizer: Anonymizer) -> dict[str, str]:
    """Return the identifiers of the connections that somebody names, and those with other addresses."""
    named = {loss.connection.conn for loss in (*analysis.losses, *analysis.truncated)}
    named |= {occurrence.conn for finding in findings for occurrence in finding.occurrences}
    if analysis.log is not None:
        wires = [*(j.wire for j in analysis.log.entries), *(t.wire for t in analysis.log.tries)]
        wires += [w for j in analysis.log.entries for w in j.candidates] + [r.wire for r in analysis.log.retries]
        named |= {wire.conn for wire in wires if wire is not None}
    uids = {}
    index = np.array(sorted(conn for conn in named if conn >= 0), dtype=np.int64)
    for row in analysis.connections.take(index).rows:
        sides = [(int(row[f"{s}_hi"]), int(row[f"{s}_lo"]), int(row[f"{s}_port"])) for s in ("orig", "resp")]
        others = [(*anonymizer.address(hi, lo), port) for hi, lo, port in sides]
        first_ts_ns = int(row["first_ts_ns"])
        uids[connection_uid(sides[0], sides[1], first_ts_ns)] = connection_uid(others[0], others[1], first_ts_ns)
    return uids
