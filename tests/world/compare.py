"""One capture under both programs: what only one of them sees, and why."""

from collections import Counter
from typing import NamedTuple

from tests.world import engine, shark
from tests.world.views import View

OURS, TSHARK = "ours", "tshark"


class Difference(NamedTuple):
    """Things of one kind that only one program sees: `side` has `n` of `subject` more, told of in these `frames`."""

    what: str
    side: str
    subject: object
    n: int
    frames: tuple[int, ...]


class Examined(NamedTuple):
    """A capture under both programs; `heads`, `behind_holes` and `facts` only where they differ.

    Attributes
    ----------
    outcome : Outcome
        Of pcapdiag.
    seen, heads, behind_holes : Seen or None
        tshark's view, the one with messages listed from their head on, and that with those behind holes, too.
    facts : dict
        {frame: `engine.Fact`} of the frames that differences are about.
    """

    path: str
    outcome: engine.Outcome
    seen: shark.Seen | None
    heads: shark.Seen | None = None
    behind_holes: shark.Seen | None = None
    facts: dict | None = None

    @property
    def ours(self):
        """The View of pcapdiag; of what is no capture, an empty one."""
        return self.outcome.result or View(0, Counter(), Counter(), {})


def examine(path):
    """Have both programs read a capture, and again with more detail where they differ."""
    first = Examined(str(path), engine.run_limited(engine.view_capture, path), shark.view_capture(path))
    found = list(differences(first))
    if not found or first.outcome.result is None:
        return first
    wanted = {frame for difference in found for frame in difference.frames}
    facts = engine.run_limited(engine.look_at_frames, path, wanted)
    if facts.result is None:
        return first._replace(outcome=facts)
    views = (shark.view_capture(path, *options) for options in (shark.HEADS, shark.BEHIND_HOLES))
    return Examined(*first[:3], *views, facts.result)


def differences(examined):
    """Yield what only one of the programs sees; one by one where it is known in which frames."""
    ours, theirs = examined.ours, examined.seen.view
    if ours.n_frames != theirs.n_frames:
        more = ours.n_frames - theirs.n_frames
        yield Difference("frames", OURS if more > 0 else TSHARK, None, abs(more), ())
    for side, mine, other in ((OURS, ours, theirs), (TSHARK, theirs, ours)):
        for connection, n in (mine.connections - other.connections).items():
            yield Difference("connections", side, connection, n, (connection.frame,))
        for message, n in (mine.messages - other.messages).items():
            # A message is told of in its first frame here, in its last there: what is left are those of one side alone.
            frames = sorted(set(mine.frames_of[message]) - set(other.frames_of.get(message, ())))
            if len(frames) == n:
                yield from (Difference(message.what + "s", side, message, 1, (frame,)) for frame in frames)
            else:
                yield Difference(message.what + "s", side, message, n, tuple(frames or mine.frames_of[message]))


def count(examined):
    """Return {what: (things that both see, things that one or both see)}."""
    ours, theirs = examined.ours, examined.seen.view
    pairs = {"connections": (ours.connections, theirs.connections)}
    for what in ("request", "response"):
        pairs[what + "s"] = tuple(
            Counter({m: n for m, n in view.messages.items() if m.what == what}) for view in (ours, theirs)
        )
    return {what: ((a & b).total(), (a | b).total()) for what, (a, b) in pairs.items()}
