"""What crosses the seam from capture to tcp: frame columns and the buffer they point into."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pcapdiag.base.findings import Note


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


class CaptureInterface(NamedTuple):
    """What a file says of one interface.

    Attributes
    ----------
    first_frame : int
        0-based frame of the capture from which on the description holds.
    number : int
        Which interface of its section, from 0.
    snaplen : int
        [bytes] Most bytes captured of a frame; 0 for no limit.
    name : bytes
        As the file has it, hostile; empty if it does not say.
    time_digits : int
        Decimal digits of the times' fraction of a second; 9 where the resolution is no power of ten up to that.
    """

    first_frame: int
    number: int
    link_type: int
    snaplen: int
    name: bytes
    time_digits: int


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
    n_secrets : int
        Blocks of pcapng that hold keys of TLS.
    secrets : list of bytes or None
        What they hold, for who gave an empty list and empties it again; by default nothing is kept of them.
    """

    path: str
    format: str = ""
    first_frame: int = 0
    n_frames: int = 0
    n_bytes: int = 0
    size: int = -1
    sha256: str = ""
    link_types: list[int] = field(default_factory=list)
    interfaces: list[CaptureInterface] = field(default_factory=list)
    """Descriptions in the order of the file, a bounded number of them."""
    first_ts_ns: int = -1
    last_ts_ns: int = -1
    snaplen: int = 0
    dropped: int = -1
    """Packets dropped by interface or kernel as the file says (pcapng ISB); -1 if it does not say."""
    n_secrets: int = 0
    secrets: list[bytes] | None = field(default=None, repr=False)


@dataclass(slots=True)
class Capture:
    """One capture: a single file, or the files of one rotation series in time order."""

    files: list[CaptureFile]
    notes: list[Note] = field(default_factory=list)
