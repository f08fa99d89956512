"""The exceptions that pcapdiag raises on purpose.

Bad *content* never raises: a truncated record or an absurd length becomes a capture note. These errors are for jobs
that cannot be done at all, and each text says what to do next.
"""


class PcapdiagError(Exception):
    """Base of every error that a caller may want to catch; the command line turns it into exit code 2.

    Examples
    --------
    >>> import pcapdiag
    >>> try:
    ...     pcapdiag.analyze("missing.pcap")
    ... except pcapdiag.PcapdiagError as error:
    ...     print(error)
    cannot open missing.pcap: No such file or directory
    """


class CaptureError(PcapdiagError):
    """An input could not be read as a capture: missing, unreadable, empty of captures, or something else entirely."""


class LogError(PcapdiagError):
    """An input could not be read as a log: missing, unreadable or a folder."""


class UsageError(PcapdiagError):
    """The request itself makes no sense: an unknown code, a bad address, an expression that cannot be evaluated."""


class MissingExtraError(PcapdiagError):
    """A feature needs an optional package that is not installed; the text names the extra to install."""


class AttachError(PcapdiagError):
    """A bundle could not be attached to a ticket: refused, out of reach, or to a place that is none."""


class StoreError(PcapdiagError):
    """The store of earlier scans cannot be opened or written: no room, no connection, or made by a newer program."""


class ScanError(PcapdiagError):
    """A scan had to stop: no room for what it writes, or what does its work is out of reach."""


SCAN_AGAIN = "what was stored before is complete; run the same command again to go on from there"
"""What to do after an error that stopped a scan."""


class KernelsError(PcapdiagError):
    """The compiled kernels are missing or damaged, and cannot be built here."""
