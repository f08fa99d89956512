"""The cascade: which peers were out from when to when, and the requests that found no live upstream.

Drawn from the chains of the ledger: a peer is out from the failure that disabled it until `fail_timeout` is over. Times
are the error log's, brought to the capture's clock where that is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pcapdiag.base.findings import Role
from pcapdiag.base.units import NS_PER_MS, NS_PER_S, count_of
from pcapdiag.proxy.join.ledger import Absence
from pcapdiag.report.render.charts.chart import Axis, Chart, Tip
from pcapdiag.report.render.charts.scene import clock_text, time_format
from pcapdiag.report.summary import Grid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcapdiag.proxy.join.ledger import Ledger
    from pcapdiag.report.render.charts.chart import Look
    from pcapdiag.report.render.charts.scene import Scene

MOST_LANES = 12
MOST_MARKS = 1000
_LANE_HEIGHT = 28
_LEFT, _LEFT_NARROW = 190, 130
_ENTRIES = "no live upstreams"


@dataclass(frozen=True, slots=True)
class _Out:
    """A peer was out for a worker; `pid` is -1 where the lanes do not tell workers apart."""

    peer: str
    pid: int
    from_ns: int
    to_ns: int
    code: str


def cascade(scene: Scene) -> Chart | None:
    """Return the chart; None where no request was left without a peer.

    Parameters
    ----------
    scene : Scene
        Analysis and report.

    Returns
    -------
    Chart or None
    """
    ledger = scene.analysis.log
    if ledger is None or not ledger.chains or not scene.findings(Role.NO_PEER):
        return None
    to_ns = _clock_of(scene, ledger)
    ahead = scene.log_ahead_ns
    entries = sorted((to_ns(c.entry.ts_s), c.entry.line) for c in ledger.chains)
    outs = _outs(scene, ledger)
    lanes = list(dict.fromkeys((o.peer, o.pid) for o in outs))
    if len(lanes) > MOST_LANES:
        outs = _merged([_Out(o.peer, -1, o.from_ns, o.to_ns, o.code) for o in outs])
        lanes = list(dict.fromkeys((o.peer, o.pid) for o in outs))
    hidden = lanes[MOST_LANES:]
    lanes = sorted(lanes[:MOST_LANES])
    outs = [o for o in outs if (o.peer, o.pid) in set(lanes)]
    first = min([entries[0][0], *(o.from_ns for o in outs)])
    last = max([entries[-1][0] + NS_PER_S, *(o.to_ns for o in outs)])
    margin = (last - first) // 50
    first, last = first - margin, last + margin
    drawn = entries[:: -(-len(entries) // MOST_MARKS)]
    caption = (
        "Bars: a peer is out for a worker, from the failure that disabled it until its fail_timeout is over. Marks"
        " below: entries of the error log that say no live upstreams."
    )
    if hidden:
        caption += f" {count_of(len(hidden), 'more peer')} not drawn."
    if len(drawn) < len(entries):
        caption += f" {count_of(len(entries) - len(drawn), 'entry', 'entries')} not drawn, evenly left out."
    axis = Axis("time", first / NS_PER_MS, last / NS_PER_MS)
    height = (len(lanes) + 1) * _LANE_HEIGHT
    return Chart(
        name="cascade",
        title="Cascade: peers that were out, and requests that found no live upstream",
        alt=(
            f"{count_of(len(entries), 'request')} found no live upstream between {_second(entries[0][0], ahead)} and"
            f" {_second(entries[-1][0], ahead)}. "
            + " ".join(f"{_name(o.peer, o.pid)} out {_from_to(o, ahead)}." for o in outs[:20])
        ),
        caption=caption,
        height=height,
        table=Grid(
            ("peer", "worker", "out from (UTC, log)", "to", "because of"),
            tuple(
                (
                    o.peer,
                    str(o.pid) if o.pid >= 0 else "any",
                    _second(o.from_ns, ahead),
                    _second(o.to_ns, ahead),
                    o.code or "the log's failure",
                )
                for o in outs[:MOST_MARKS]
            ),
        ),
        x=axis,
        build=lambda look: _spec(look, outs, lanes, drawn, axis),
        tips=tuple(_tips(outs, lanes, drawn, axis, ahead)),
        left=_LEFT,
        left_narrow=_LEFT_NARROW,
        has_legend=False,
    )


def _clock_of(scene: Scene, ledger: Ledger) -> Any:
    zone_s = ledger.zone_s or 0
    return lambda ts_s: (ts_s - zone_s) * NS_PER_S - scene.log_ahead_ns


def _outs(scene: Scene, ledger: Ledger) -> list[_Out]:
    to_ns = _clock_of(scene, ledger)
    codes = {(f.occurrence.uid, f.occurrence.depth): f.code for f in scene.failures}
    outs = []
    for chain in ledger.chains:
        for link in chain.links:
            if link.entry is None or link.absence not in {Absence.DISABLED, Absence.PROBED}:
                continue
            until_s = link.until_s if link.absence is Absence.DISABLED else max(link.until_s, chain.entry.ts_s)
            code = codes.get((link.wire.uid, link.wire.depth), "") if link.wire is not None else ""
            outs.append(_Out(scene.label(link.peer), chain.entry.pid, to_ns(link.entry.ts_s), to_ns(until_s), code))
    return _merged(outs)


def _merged(outs: Sequence[_Out]) -> list[_Out]:
    """Return the intervals with those of one peer and worker that touch made one."""
    merged: list[_Out] = []
    for out in sorted(set(outs), key=lambda o: (o.peer, o.pid, o.from_ns, o.to_ns, o.code)):
        before = merged[-1] if merged else None
        if before is not None and (before.peer, before.pid) == (out.peer, out.pid) and out.from_ns <= before.to_ns:
            codes = ", ".join(dict.fromkeys(c for c in (*before.code.split(", "), out.code) if c))
            merged[-1] = _Out(out.peer, out.pid, before.from_ns, max(before.to_ns, out.to_ns), codes)
        else:
            merged.append(out)
    return merged


def _name(peer: str, pid: int) -> str:
    return f"{peer}, worker {pid}" if pid >= 0 else peer


def _from_to(out: _Out, ahead_ns: int) -> str:
    text = f"{_second(out.from_ns, ahead_ns)} to {_second(out.to_ns, ahead_ns)}"
    return f"{text}, {out.code}" if out.code else text


def _second(ts_ns: int, ahead_ns: int) -> str:
    """Return a time as the log has it: to the second, by its own clock."""
    return clock_text(ts_ns + ahead_ns)[:8]


def _tips(
    outs: Sequence[_Out],
    lanes: Sequence[tuple[str, int]],
    entries: Sequence[tuple[int, int]],
    axis: Axis,
    ahead_ns: int,
) -> list[Tip]:
    rows = len(lanes) + 1

    def x(ts_ns: int) -> float:
        return round((ts_ns / NS_PER_MS - axis.low) / (axis.high - axis.low), 4)

    tips = [
        Tip(
            x((o.from_ns + o.to_ns) // 2),
            round((lanes.index((o.peer, o.pid)) + 0.5) / rows, 4),
            f"{_name(o.peer, o.pid)} out {_from_to(o, ahead_ns)}",
        )
        for o in outs
    ]
    tips += [
        Tip(x(t), round((rows - 0.5) / rows, 4), f"{_second(t, ahead_ns)}, {_ENTRIES}, line {line} of the log")
        for t, line in entries
    ]
    return tips


def _spec(
    look: Look,
    outs: Sequence[_Out],
    lanes: Sequence[tuple[str, int]],
    entries: Sequence[tuple[int, int]],
    axis: Axis,
) -> dict[str, Any]:
    palette = look.palette
    names = {lane: _label(lane, look) for lane in lanes}
    x = {
        "type": "temporal",
        "scale": {"type": "utc", "domain": [axis.low, axis.high], "nice": False},
        "axis": {
            "title": "time (UTC)",
            "format": time_format(int((axis.high - axis.low) * NS_PER_MS)),
            "tickCount": 2 if look.is_narrow else 6,
            "grid": False,
        },
    }
    y = {
        "field": "lane",
        "type": "nominal",
        "scale": {"domain": [*names.values(), _ENTRIES]},
        "axis": {"title": None, "labelLimit": look.left - 8, "ticks": False, "grid": True, "tickBand": "extent"},
    }
    bars = [{"a": o.from_ns / NS_PER_MS, "b": o.to_ns / NS_PER_MS, "lane": names[o.peer, o.pid]} for o in outs]
    ticks = [{"t": t / NS_PER_MS, "lane": _ENTRIES} for t, _ in entries]
    return {
        "layer": [
            {
                "data": {"values": bars},
                "mark": {"type": "bar", "height": {"band": 0.55}, "color": palette.near, "aria": False},
                "encoding": {"x": {"field": "a", **x}, "x2": {"field": "b"}, "y": y},
            },
            {
                "data": {"values": ticks},
                "mark": {
                    "type": "tick",
                    "thickness": 2,
                    "bandSize": _LANE_HEIGHT - 8,
                    "color": palette.lost,
                    "opacity": 1,
                    "aria": False,
                },
                "encoding": {"x": {"field": "t", **x}, "y": y},
            },
        ]
    }


def _label(lane: tuple[str, int], look: Look) -> str:
    peer, pid = lane
    return f"{peer} #{pid}" if look.is_narrow and pid >= 0 else _name(peer, pid)
