"""The comment: the report as it lies in the bundle, where the file is, and the mark by which a second run knows it.

The mark is the last line. A reply that quotes the comment does not end with it, so it is not taken for ours.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pcapdiag.base.units import format_bytes
from pcapdiag.ticket.attach.targets import Kind

if TYPE_CHECKING:
    from pcapdiag.ticket.attach.archive import Bundle

_TICKETS = {
    Kind.JIRA: "ticket/jira.txt",
    Kind.JIRA_CLOUD: "ticket/jira.adf.json",
    Kind.GITHUB: "ticket/github.md",
    Kind.GITLAB: "ticket/gitlab.md",
    Kind.WEBHOOK: "ticket/github.md",
}

_EVIDENCE = "evidence.pcapng"
_PROOF = f". In its {_EVIDENCE} the Wireshark filter frame.comment selects the frames that prove it."


def compose(kind: Kind, bundle: Bundle, link: str) -> str:
    """Return the comment in the dialect of a system.

    Parameters
    ----------
    kind : Kind
        Which system.
    bundle : Bundle
        What is attached.
    link : str
        Address of the uploaded file; empty where the system has none to give.

    Returns
    -------
    str
        Markdown, wiki markup, or for Jira Cloud a document as JSON.
    """
    ticket = bundle.ticket(_TICKETS[kind]).rstrip()
    mark = mark_of(kind, bundle.manifest.report)
    size = f"{format_bytes(bundle.n_bytes)}, sha256 {bundle.sha256}"
    # Frames have other numbers there than in the capture that the report speaks of.
    proof = _PROOF if any(member.name == _EVIDENCE for member in bundle.manifest.members) else ""
    if kind is Kind.JIRA_CLOUD:
        document: dict[str, Any] = json.loads(ticket)
        document["content"] += [_paragraph(f"Bundle: {bundle.name}, attached ({size}){proof}"), _paragraph(mark)]
        return json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    if kind is Kind.JIRA:
        return f"{ticket}\n\nBundle: [^{bundle.name}] ({size}){proof}\n\n{mark}"
    if kind is Kind.GITHUB and not link:
        where = f"Bundle: `{bundle.name}` ({size}) is with the author: GitHub takes no files in comments"
    else:
        where = f"Bundle: [{bundle.name}]({link}) ({size})" if link else f"Bundle: `{bundle.name}` ({size})"
    return f"{ticket}\n\n{where}{proof}\n\n{mark}"


def mark_of(kind: Kind, report: str) -> str:
    """Return the mark of a report: hidden where the dialect can hide it."""
    return f"pcapdiag report {report}" if kind in {Kind.JIRA, Kind.JIRA_CLOUD} else f"<!-- pcapdiag report {report} -->"


def has_mark(kind: Kind, report: str, body: Any) -> bool:
    """Return whether the body of a comment, as the server gives it, ends with the mark of a report."""
    if isinstance(body, dict):  # a document of Jira Cloud
        content = body.get("content")
        return isinstance(content, list) and bool(content) and _text(content[-1]).strip() == mark_of(kind, report)
    return isinstance(body, str) and body.rstrip().rpartition("\n")[2].strip() == mark_of(kind, report)


def _paragraph(text: str) -> dict[str, Any]:
    return {"type": "paragraph", "content": [{"type": "text", "text": text}]}


def _text(node: Any) -> str:
    """Return the text directly within a paragraph."""
    content = node.get("content") if isinstance(node, dict) and node.get("type") == "paragraph" else None
    parts = content if isinstance(content, list) else []
    return "".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))
