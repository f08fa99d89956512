"""What crosses the seam from capture to tcp: frame columns and the buffer they point into."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pcapdiag.findings import Note


@dataclass(slots=True)
class FrameBatch:
    """At most 64 Ki decoded frames and the buffer that holds their bytes.

    The buffer and the rows belong to the reader and are reused: both are valid until the next batch is asked for.

    Attributes
    ----------
    buffer : ndarray of uint8, shape (n_byte,)
        Captured bytes; `record_offset` and `payload_offset` of the rows index it.
    frames : ndarray of columns.FRAMES.dtype, shape (n_frame,)
        One row per frame, in file order, `frame` rising by one.
    bytes_read : int
        [bytes] Input consumed so far (compressed size where compressed), for progress.
    """

    buffer: NDArray[np.uint8]
    frames: np.ndarray[Any, Any]
    bytes_read: int = 0


@dataclass(slots=True)
class CaptureFile:
    """One file of a capture, filled in while it is read.

    Attributes
    ----------
    path : str
        As given, `-` for standard input.
    format : str
        Container and compression in words: ``pcap``, ``pcap (ns, big-endian)``, ``pcapng``, with ``+gzip`` etc.
    first_frame, n_frames : int
        0-based index of its first frame in the capture, and how many it holds.
    size : int
        [bytes] Size on disk, -1 for a pipe.
    sha256 : str
        Hex digest of the file as stored, empty if it was not computed.
    """

    path: str
    format: str = ""
    first_frame: int = 0
    n_frames: int = 0
    n_bytes: int = 0
    size: int = -1
    sha256: str = ""
    link_types: list[int] = field(default_factory=list)
    first_ts_ns: int = -1
    last_ts_ns: int = -1
    snaplen: int = 0
    dropped: int = -1
    """Packets dropped by interface or kernel as the file says (pcapng ISB); -1 if it does not say."""


@dataclass(slots=True)
class Capture:
    """One capture: a single file, or the files of one rotation series in time order."""

    files: list[CaptureFile]
    notes: list[Note] = field(default_factory=list)
