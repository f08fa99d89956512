"""PD601: a request found no peer, and the failures that had put each of them out."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from pcapdiag.base.codes import Direction, TcpFlag
from pcapdiag.base.findings import Confidence, Evidence, Finding, Occurrence, Role, RuleFacts, Severity
from pcapdiag.base.units import NS_PER_S, count_of
from pcapdiag.proxy.conf.describe import RETRY
from pcapdiag.proxy.conf.remedy import keep_in_rotation
from pcapdiag.proxy.join.ledger import Absence, OutsideKind
from pcapdiag.rules._changes import change_block
from pcapdiag.rules._dialect import names_no_server
from pcapdiag.rules._evidence import MOST_WITH_EVIDENCE
from pcapdiag.rules._logged import lacks_error_log, outside_occurrence
from pcapdiag.rules._rule import GroupText, Rule

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pcapdiag.analysis.model import Analysis
    from pcapdiag.base.findings import Change
    from pcapdiag.proxy.join.ledger import Chain, ChainLink, OutsideFailure


_ABSENCES = {
    Absence.TRIED: "this request had just failed on it",
    Absence.DISABLED: "failures had put it out",
    Absence.PROBED: "it had failed before, and another request was the one that may try it again",
    Absence.UNHEALTHY: "a health check of the balancer had counted against it",
    Absence.DOWN: "the configuration marks it down",
    Absence.UNKNOWN: "no failure of it reaches this moment",
}


class NoLiveUpstreams(Rule):
    """A request was refused because each peer of its group was out, or used up by the request itself.

    What it looks for
    -----------------
    `no live upstreams` in the error log, and for each peer of the group the failure behind it: an entry of the same
    worker (of any worker where the group has a `zone`) within `fail_timeout`, or a failed try of the same request. Of
    balancers in Lua (OpenResty, APISIX, Kong) their own words for it, with the tries of the same request and the
    health checks that the log names. Of HAProxy lines of requests with `<NOSRV>` and termination state `SC`.

    Why it matters
    --------------
    Such a request sends no packet, so that a capture alone does not show it, and it gets 502 at once. A handful of
    stale connections can refuse hundreds of requests for as long as `fail_timeout` lasts, although every server is up.

    Evidence
    --------
    The log entry and, for each peer, the entry of the failure with its try on the wire. The causes of those tries are
    findings of their own: they are what there is to cure.

    When it is wrong
    ----------------
    An entry counts for the capture that shows the last failure behind it, or in whose time it was logged; where nothing
    ties the log's clock to the capture's, and `--log-zone` was not given, this rule is not evaluated.
    Without the configuration the peers are those that the log names, and `max_fails` and `fail_timeout` are nginx's
    defaults (1 and 10 s). A group with `max_conns` can be exhausted without any failure.

    Remedy
    ------
    Cure the cause of the failures. Until then `max_fails=0` keeps peers in rotation, and a group of more peers, or a
    backup, lasts longer.

    References
    ----------
    nginx ngx_http_upstream_round_robin.c (peers are skipped while `fails >= max_fails` and
    `now - checked <= fail_timeout`), ngx_http_upstream.c (`no live upstreams`, NGX_BUSY).
    """

    code = "PD601"
    name = "no-live-upstreams"
    title = "Requests found no live upstream: failures had put every peer out, or used it up"
    severity = Severity.ERROR
    needs = ("error log",)
    helped_by = ("proxy configuration", "access log")
    facts = RuleFacts(
        role=Role.NO_PEER, settings=("zone", "max_fails", "fail_timeout", "backup", "down", "worker_processes", *RETRY)
    )

    def missing(self, analysis: Analysis) -> str:
        """Return what is missing: a request without a peer leaves no packets."""
        if names_no_server(analysis) and analysis.log is not None and analysis.log.has_errors:
            return ""
        lacking = lacks_error_log(analysis, "such a request sends no packets: needs the error log (--error-log)")
        if lacking or analysis.log is None:
            return lacking
        if analysis.log.chains_unplaced:
            return (
                f"the log has {count_of(analysis.log.chains_unplaced, 'such entry', 'such entries')}, but nothing ties"
                " its clock to the capture's: give --log-zone"
            )
        return ""

    def check(self, analysis: Analysis) -> Iterator[Finding]:
        """Yield one finding per upstream block."""
        if analysis.log is None:
            return
        if names_no_server(analysis):
            yield from self._of_haproxy(analysis.log.outside)
        zone_s = analysis.log.zone_s or 0
        blocks: dict[str, list[Chain]] = defaultdict(list)
        for chain in analysis.log.chains:
            blocks[chain.block].append(chain)
        for block, chains in blocks.items():
            times = [(chain.entry.ts_s - zone_s) * NS_PER_S for chain in chains]
            changes = keep_in_rotation(analysis.settings, block) if analysis.settings is not None else ()
            words = GroupText(
                message=_message(block, chains) + _beyond(analysis, times),
                refuted_by="A peer of the group that no entry of this worker says has failed within fail_timeout.",
                remedy=_remedy(block, chains, changes),
                details={
                    "complete_chains": sum(chain.is_complete for chain in chains),
                    "fail_timeout_s": chains[0].fail_timeout_s,
                },
                changes=changes,
            )
            occurrences = (
                _occurrence(chain, ts_ns, has_frames=number < MOST_WITH_EVIDENCE and len(analysis.captures) == 1)
                for number, (chain, ts_ns) in enumerate(zip(chains, times, strict=True))
            )
            yield self.finding(block, words, occurrences, _confidence(chains))

    def _of_haproxy(self, outside: Iterable[OutsideFailure]) -> Iterator[Finding]:
        """Yield one finding per backend that had no server up."""
        backends: dict[str, list[OutsideFailure]] = defaultdict(list)
        for failure in outside:
            if failure.kind is OutsideKind.NO_SERVER:
                backends[failure.peer.partition("/")[0]].append(failure)
        for backend, failures in backends.items():
            n_unplaced = sum(not f.is_placed for f in failures)
            n = len(failures)
            lines = "its line names" if n == 1 else "their lines name"
            text = (
                f"{count_of(n, 'request')} found no server up in backend {backend}: {lines} <NOSRV> with termination"
                " state SC. HAProxy sent nothing and answered by itself."
            )
            if n_unplaced:
                which = "whether it is" if n == 1 else "whether all are" if n_unplaced < n else "whether they are"
                text += (
                    f" Nothing ties the log's clock to the capture's: {which} of its time is not certain (--log-zone)."
                )
            words = GroupText(
                message=text,
                refuted_by=f"A server of backend {backend} that HAProxy's log or its statistics have as UP then.",
                remedy=_OF_HAPROXY.format(backend=backend),
                severity=None if any(f.is_likely for f in failures) else Severity.INFO,
            )
            confidence = Confidence.POSSIBLE if n_unplaced else Confidence.LIKELY
            yield self.finding(backend, words, map(outside_occurrence, failures), confidence)


_OF_HAPROXY = (
    "Each server of backend {backend} was down by its check, in maintenance, or there was none. HAProxy's log says"
    " which and why before these lines: `Server {backend}/NAME is DOWN, reason: ...`, and with the last of them"
    " `backend {backend} has no server available!`. Cure that reason: what refused, timed out or failed the check.\n\n"
    "A server goes after `fall` bad checks and comes back after `rise` good ones, `inter` apart: a larger `fall`"
    " outlasts a short restart, a smaller `rise` or `fastinter` brings it back sooner. Another server, or one marked"
    " `backup`, serves meanwhile."
)


def _confidence(chains: Sequence[Chain]) -> Confidence:
    complete = sum(chain.is_complete for chain in chains)
    if 2 * complete <= len(chains):
        return Confidence.POSSIBLE
    inferred = any(link.absence is Absence.PROBED for chain in chains for link in chain.links)
    if inferred:
        return Confidence.LIKELY
    return Confidence.CONFIRMED if complete == len(chains) and chains[0].source else Confidence.LIKELY


def _message(block: str, chains: Sequence[Chain]) -> str:
    absences = Counter(link.absence for chain in chains for link in chain.links)
    own = sum(any(link.absence is Absence.TRIED for link in chain.links) for chain in chains)
    failures = {(e.path, e.line) for chain in chains for link in chain.links if (e := link.entry) is not None}
    put_out = failures - _own_failures(chains)
    peers = max((len(chain.links) for chain in chains), default=0)
    text = f"{count_of(len(chains), 'request')} found no live peer in {block} ({count_of(peers, 'peer')})"
    if failures and chains[0].fail_timeout_s < 0:
        text += f": {count_of(len(failures), 'failure')} of tries and health checks had used them up"
    elif put_out:
        text += f": {count_of(len(put_out), 'failure')} had put the peers out, each for {_timeout(chains[0])}"
    if own == len(chains) and not put_out:
        text += f": {'it' if own == 1 else 'each'} had just failed on all of them itself"
    elif own:
        text += f"; {count_of(own, 'request')} used up the last peers {'itself' if own == 1 else 'themselves'}"
    if absences[Absence.UNKNOWN]:
        incomplete = sum(not chain.is_complete for chain in chains)
        text += f"; for {incomplete} the log does not account for every peer"
    assumed = "" if chains[0].source else " Peers and limits are assumed: the configuration was not given."
    return f"{text}.{assumed}"


def _beyond(analysis: Analysis, times: Sequence[int]) -> str:
    """Return a sentence where the log, which counts here, goes beyond the capture."""
    slack_ns = 2 * NS_PER_S  # a log says whole seconds
    n = sum(not analysis.first_ts_ns - slack_ns <= ts_ns <= analysis.last_ts_ns + slack_ns for ts_ns in times)
    if not n:
        return ""
    return f" The log goes beyond the capture: {n:,} of these {len(times):,} are of a time before or after it."


def _own_failures(chains: Sequence[Chain]) -> set[tuple[str, int]]:
    """Return the entries that only used a peer up for the request that failed on it, and put it out for no other."""
    own: set[tuple[str, int]] = set()
    others: set[tuple[str, int]] = set()
    for chain in chains:
        for link in chain.links:
            if link.entry is not None:
                (own if link.absence is Absence.TRIED else others).add((link.entry.path, link.entry.line))
    return own - others


def _timeout(chain: Chain) -> str:
    if chain.shortest_timeout_s != chain.fail_timeout_s:
        return f"its fail_timeout of {chain.shortest_timeout_s} s to {chain.fail_timeout_s} s"
    return f"more than {chain.fail_timeout_s} s and up to {chain.fail_timeout_s + 1} s"


def _remedy(block: str, chains: Sequence[Chain], changes: Sequence[Change]) -> str:
    if changes:
        return (
            "Cure what fails on the wire: the findings of the tries named here. No setting brings back a request that"
            " has nowhere to go.\n\nUntil then keep the peers in rotation, so that a failure costs its own request"
            f" only:\n\n{change_block(changes)}"
        )
    if chains[0].fail_timeout_s < 0:
        return (
            "Cure what fails on the wire: the findings of the tries named here. This balancer is a program: it tries a"
            " request on as many peers as its retries allow (APISIX: retries of the upstream object, Kong: retries of"
            " the service), and leaves out those that its health checks call unhealthy."
        )
    place = f" ({chains[0].source})" if chains[0].source else ""
    if all(link.absence is Absence.TRIED for chain in chains for link in chain.links):
        return (
            "Cure what fails on the wire: the findings of the tries named here. No peer was out: each of these requests"
            f" had failed on every peer of {block}{place}. A backup, or more peers, would have given it one more try."
        )
    return (
        "Cure what fails on the wire: the findings of the tries named here. No setting brings back a request that has"
        f" nowhere to go.\n\nUntil then, in upstream {block}{place}, keep the peers in rotation:\n\n"
        "    server ADDRESS max_fails=0;\n\n"
        "A failure then costs its own request only; where a server is really down, each request pays for finding out."
    )


def _occurrence(chain: Chain, ts_ns: int, *, has_frames: bool) -> Occurrence:
    entry = chain.entry
    return Occurrence(
        conn=-1,
        depth=0,
        uid="",
        orig=entry.client,
        resp=chain.block,
        request_frame=-1,
        request_ts_ns=ts_ns,
        idle_before_ns=-1,
        method=entry.method,
        target=entry.target,
        closing_frame=-1,
        closing_kind="",
        evidence=tuple(_evidence(chain)) if has_frames else (),
        host=entry.host,
        log_lines=tuple(
            dict.fromkeys(f"{e.path}:{e.line}" for e in (entry, *(link.entry for link in chain.links)) if e is not None)
        ),
    )


def _evidence(chain: Chain) -> Iterator[Evidence]:
    links = [link for link in chain.links if link.wire is not None]
    for link in sorted(links, key=lambda link: link.wire.start_ns if link.wire is not None else -1):
        if link.wire is None:
            continue
        yield Evidence(
            frame=link.wire.request_frame,
            ts_ns=link.wire.start_ns,
            dir=Direction.ORIG,
            flags=TcpFlag.SYN if link.wire.is_connect else TcpFlag.PSH | TcpFlag.ACK,
            seq=-1,
            ack=-1,
            rel_seq=-1,
            rel_ack=-1,
            payload_len=0,
            ttl=-1,
            label=link.peer,
            text=_why(link),
        )


def _why(link: ChainLink) -> str:
    where = f", line {link.entry.line} of the log" if link.entry is not None else ""
    return f"{link.peer}: {_ABSENCES[link.absence]}{where}"
