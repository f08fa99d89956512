"""Capture notes, bounded: an odd file may hold millions of oddities, a report shows the first few of each kind.

Knows the codes of the notes that reading a capture can produce; knows nothing of how they are rendered.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from pcapdiag.base.findings import Note

PER_CODE: Final = 10
"""Notes of one code that are kept; the rest is counted."""

NOTE_CODES: Final = {
    "truncated-file": "the file ends inside its header or inside a record",
    "growing-file": "the file grew while it was read",
    "skipped-bytes": "bytes that are no records were passed over",
    "clipped-record": "a packet block claims more captured bytes than it holds",
    "clock-step-back": "a frame is more than a second older than the frame before it",
    "no-timestamps": "frames without a time (simple packet blocks)",
    "bad-timestamps": "times that cannot be represented",
    "unknown-interface": "frames of an interface that the file does not describe",
    "odd-interface": "an interface description or statistics block that cannot be read in full",
    "interface-drops": "the capturing machine dropped packets",
    "joined-files": "another capture file begins inside this one",
    "no-frames": "the capture holds no frame",
    "empty-file": "a file of a series holds no byte",
    "truncated-compression": "the compressed data ends early",
    "corrupt-compression": "the compressed data is damaged",
    "read-error": "the system could not read on",
    "unknown-link-type": "frames of a link type that is not decoded",
    "malformed-fragment": "an IP fragment that can belong to no datagram",
    "dropped-datagram": "a datagram put together from fragments that found no room",
    "incomplete-fragments": "IP datagrams of which a fragment never came",
}
"""Codes of the notes from this package, and what each says."""


class NoteBook:
    """Notes in the order in which they came, at most `PER_CODE` of each code."""

    def __init__(self) -> None:
        self._notes: list[Note] = []
        self._counts: Counter[str] = Counter()
        self._last: dict[str, Note] = {}

    def append(self, note: Note) -> None:
        """Keep `note`, or only count it if its code has come often enough."""
        self._counts[note.code] += 1
        if self._counts[note.code] <= PER_CODE:
            self._notes.append(note)
        else:
            self._last[note.code] = note

    def take(self) -> list[Note]:
        """Return the notes since the last call."""
        notes, self._notes = self._notes, []
        return notes

    def take_rest(self) -> list[Note]:
        """Return the notes since the last call and, for each code that came too often, how many are not shown."""
        notes = self.take()
        for code, last in self._last.items():
            n_more = self._counts[code] - PER_CODE
            notes.append(
                Note(code, f"and {n_more} more like this, the last: {last.text}", last.frame, last.offset, last.file)
            )
        self._last = {}
        self._counts.clear()
        return notes
