"""What the record that ends a FastCGI request says, in words (FastCGI 1.0 section 5.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcapdiag.rules._streams import is_not_processed

if TYPE_CHECKING:
    from pcapdiag.analysis.model import Loss

_STATUSES = ("FCGI_REQUEST_COMPLETE", "FCGI_CANT_MPX_CONN", "FCGI_OVERLOADED", "FCGI_UNKNOWN_ROLE")


def status_name(code: int) -> str:
    """Return what a protocol status of FCGI_END_REQUEST is called; -1 is one that was not captured."""
    if 0 <= code < len(_STATUSES):
        return _STATUSES[code]
    return "a status that was not captured" if code < 0 else f"status {code}, which is not defined"


def end_text(loss: Loss) -> str:
    """Return what FCGI_END_REQUEST says of a request without output."""
    status = status_name(loss.stream_error)
    if is_not_processed(loss):
        return f"FCGI_END_REQUEST ({status}): the upstream rejects the request"
    return f"FCGI_END_REQUEST ({status}): the request has ended, without a byte of output"
