"""What one run found: the report, every table as a pandas DataFrame, and whatever can be written of them.

Knows the renderers and the evidence, each of which loads when it is asked for; not how the capture was read.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from tempfile import TemporaryFile, gettempdir
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    import pandas as pd

    from pcapdiag.analysis.model import Analysis
    from pcapdiag.base.findings import Finding
    from pcapdiag.privacy.anonymize import Anonymizer
    from pcapdiag.report.model import Report
    from pcapdiag.report.tables import TableBuilder
    from pcapdiag.ticket.evidence.write import EvidenceSummary


@dataclass(frozen=True, slots=True)
class Captured:
    """What was found under the addresses and names of the captures, and what other ones the report has for them."""

    analysis: Analysis
    findings: Sequence[Finding]
    anonymizer: Anonymizer | None = None


class CaptureReport:
    """What one run found.

    Parameters
    ----------
    report : Report
        Plain data, as in the JSON report.
    analysis : Analysis
        The tables behind it.
    redact : bool
        Whether targets in the tables are masked as in the report.
    captured : Captured, optional
        What the captures themselves hold, for the evidence.

    Examples
    --------
    >>> import pcapdiag
    >>> result = pcapdiag.analyze("captures/idle_close_race_65s/proxy.pcap")
    >>> print(result.to_text(show=None).splitlines()[0][:34])
    10 of 63 requests got no answer: t
    >>> result.to_json()["findings"][0]["code"]
    'PD101'
    >>> int(result.exchanges["idle_before_ns"].max())  # nanoseconds
    65014101000
    """

    def __init__(
        self, report: Report, analysis: Analysis, *, redact: bool = True, captured: Captured | None = None
    ) -> None:
        self.report = report
        self.analysis = analysis
        self._redact = redact
        self.captured = captured or Captured(analysis, ())

    def __repr__(self) -> str:
        return f"<CaptureReport: {self.headline}>"

    def _repr_html_(self) -> str:
        from pcapdiag.report.render.notebook import render  # noqa: PLC0415 - renderers load when something is rendered

        tables = ".findings .occurrences .exchanges .connections .closings .upstreams .verdicts"
        return render(self.report, hint=f"DataFrames: {tables}")

    @property
    def headline(self) -> str:
        """The verdict in one sentence."""
        from pcapdiag.privacy.escape import visible  # noqa: PLC0415 - with the next
        from pcapdiag.report.headline import headline  # noqa: PLC0415 - renderers load when something is rendered

        return visible(headline(self.report))

    @property
    def found(self) -> Sequence[Finding]:
        """The findings in the order of the report, with addresses and names as captured whatever the report shows."""
        return self.captured.findings

    def to_json(self) -> dict[str, Any]:
        """Return the JSON report as dicts and lists."""
        return self.report.to_json()

    def to_markdown(self) -> str:
        """Return the report as Markdown."""
        from pcapdiag.report.render.markdown import render  # noqa: PLC0415

        return render(self.report)

    def to_html(self) -> str:
        """Return the report as one HTML document that fetches nothing."""
        from pcapdiag.report.render.html import render_html  # noqa: PLC0415 - a template engine and a drawing engine

        return render_html(self.report, self.analysis)

    def to_text(self, *, width: int = 100, show: Collection[str] | None = ()) -> str:
        """Return the report as on a terminal of `width` columns, without colours.

        Parameters
        ----------
        width : int
            Columns.
        show : collection of str, optional
            Sections that follow the page, as ``--show`` takes them; None for the whole report (``-v``).
        """
        from pcapdiag.report.render.terminal import render  # noqa: PLC0415 - rich loads only here

        return render(self.report, width=width, show=show)

    def write_bundle(
        self,
        to: str | PathLike[str] | IO[bytes],
        *,
        force: bool = False,
        on_progress: Callable[[int, int, int], None] | None = None,
    ) -> None:
        """Write everything that a ticket needs as one ZIP, byte for byte the same for the same input.

        Parameters
        ----------
        to : str, path or file object
            A name, or a file that was opened for writing bytes.
        force : bool
            Whether an existing file is replaced.
        on_progress : callable, optional
            As in `analyze`; called while the captures are read again for the evidence.

        Raises
        ------
        CaptureError
            A capture cannot be read again.
        UsageError
            The file cannot be written, or exists and `force` was not given; or a capture is a pipe.
        """
        from pcapdiag.base.disk import naming  # noqa: PLC0415 - renderers load when something is rendered
        from pcapdiag.base.outfile import open_file  # noqa: PLC0415 - the same
        from pcapdiag.report.render.charts import charts  # noqa: PLC0415 - a drawing engine
        from pcapdiag.report.render.html import render_html  # noqa: PLC0415 - a template engine
        from pcapdiag.ticket.bundle import BundleFile, chart_files, text_files, write_bundle  # noqa: PLC0415 - the same

        with (
            open_file(to, force=force) if isinstance(to, str | PathLike) else nullcontext(to) as file,
            TemporaryFile(prefix="pcapdiag-") as evidence,
        ):
            with naming(gettempdir()):
                self.write_evidence(evidence, on_progress=on_progress)
                evidence.flush()
            made = charts(self.analysis, self.report)
            html = render_html(self.report, self.analysis, charts=made)
            members = (
                BundleFile("report.html", html.encode()),
                *text_files(self.report, made),
                BundleFile("evidence.pcapng", evidence),
                *chart_files(made),
            )
            write_bundle(file, self.report, members)

    def write_evidence(
        self,
        out: IO[bytes],
        *,
        codes: Sequence[str] = (),
        connections: Sequence[str] = (),
        frames: Sequence[str] = (),
        keep_bodies: bool = False,
        n_samples: int = 5,
        on_progress: Callable[[int, int, int], None] | None = None,
    ) -> EvidenceSummary:
        """Write a pcapng of the frames that prove the findings, masked as the report is.

        Parameters
        ----------
        out : binary file
            Where to.
        codes : sequence of str
            Prove only findings of these codes (or beginnings of codes); all if nothing else is asked for either.
        connections : sequence of str
            Further connections to keep, by uid.
        frames : sequence of str
            Further frames to keep, with their connections: the number in the capture, or ``FILE:NUMBER``.
        keep_bodies : bool
            Whether the bodies of HTTP messages are kept.
        n_samples : int
            How many connections of each upstream to keep that nothing was lost on and each end closed while idle.
        on_progress : callable, optional
            As in `analyze`.

        Returns
        -------
        EvidenceSummary
            What was written.

        Raises
        ------
        CaptureError
            A capture cannot be read again.
        UsageError
            A capture is a pipe, or there is no such code, connection or frame.
        """
        from pcapdiag.ticket.evidence.choose import choose_findings, choose_frames  # noqa: PLC0415
        from pcapdiag.ticket.evidence.write import write_evidence  # noqa: PLC0415

        captured = self.captured
        return write_evidence(
            out,
            captured.analysis,
            self.report,
            choose_findings(captured.findings, codes, is_all=not connections and not frames),
            uids=connections,
            frames=choose_frames(captured.analysis.captures, frames),
            redact=self._redact,
            anonymizer=captured.anonymizer,
            keep_bodies=keep_bodies,
            n_samples=n_samples,
            on_progress=on_progress,
        )

    @cached_property
    def exchanges(self) -> pd.DataFrame:
        """One row per exchange, `idle_before_ns` among its columns."""
        import pandas as pd  # noqa: PLC0415 - half a second that a report does not need

        chunks = list(self.exchange_chunks())
        return pd.concat(chunks, ignore_index=True) if chunks else pd.DataFrame()

    def exchange_chunks(self) -> Iterator[pd.DataFrame]:
        """Yield `exchanges` a part at a time, for captures whose exchanges fill the memory."""
        return self._tables.exchanges()

    @cached_property
    def connections(self) -> pd.DataFrame:
        """One row per connection."""
        return self._tables.connections()

    @cached_property
    def closings(self) -> pd.DataFrame:
        """One row per connection that was closed: who closed, how, at which idle age."""
        return self._tables.closings()

    @cached_property
    def findings(self) -> pd.DataFrame:
        """One row per finding, without its occurrences."""
        return self._records("findings", drop="occurrences")

    @cached_property
    def occurrences(self) -> pd.DataFrame:
        """One row per occurrence of a finding, without its evidence."""
        import pandas as pd  # noqa: PLC0415

        rows = [
            {"code": f["code"], **{k: v for k, v in o.items() if k != "evidence"}}
            for f in self.to_json()["findings"]
            for o in f["occurrences"]
        ]
        return pd.DataFrame(rows)

    @cached_property
    def upstreams(self) -> pd.DataFrame:
        """One row per upstream, nested measurements as columns such as `idle_timeout_ns.value`."""
        import pandas as pd  # noqa: PLC0415

        return pd.json_normalize(self.to_json()["upstreams"])

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        """One row per rule."""
        return self._records("verdicts")

    @cached_property
    def _tables(self) -> TableBuilder:
        from pcapdiag.report.tables import TableBuilder  # noqa: PLC0415 - pandas loads only here

        return TableBuilder(self.analysis, redact=self._redact)

    def _records(self, name: str, drop: str = "") -> pd.DataFrame:
        import pandas as pd  # noqa: PLC0415

        return pd.DataFrame([{k: v for k, v in row.items() if k != drop} for row in self.to_json()[name]])
