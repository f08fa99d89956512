"""What the frames that end an HTTP/2 stream say, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcapdiag.base.codes import ExchangeFlag, Key

if TYPE_CHECKING:
    from pcapdiag.analysis.model import Loss

_ERRORS = (
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
)
"""RFC 9113 section 7."""


def error_name(code: int) -> str:
    """Return what an error code of RST_STREAM or GOAWAY is called, and its number, as nginx logs it."""
    name = _ERRORS[code] if 0 <= code < len(_ERRORS) else "an error that is not defined"
    return f"{name}, error {code}" if 0 <= code < len(_ERRORS) else name


def is_not_processed(loss: Loss) -> bool:
    """Tell whether the upstream said that it did nothing of this stream (RFC 9113 section 8.7)."""
    return bool(loss.flags & ExchangeFlag.NOT_PROCESSED)


def stream_text(loss: Loss, key: Key) -> str:
    """Return what a frame that ends a stream, or a connection's new streams, says of this one.

    Parameters
    ----------
    loss : Loss
        Of HTTP/2.
    key : Key
        RESP_RESET_STREAM, ORIG_RESET_STREAM or GOAWAY.
    """
    error = f" ({error_name(loss.stream_error)})"
    if key is Key.GOAWAY:
        if is_not_processed(loss) and Key.RESP_RESET_STREAM not in loss.keys:
            return f"GOAWAY{error}: stream {loss.stream} lies beyond the last one that the upstream serves"
        return "GOAWAY: the upstream wants no new streams on this connection"
    who = "upstream" if key is Key.RESP_RESET_STREAM else "proxy"
    if who == "upstream" and is_not_processed(loss):
        return f"RST_STREAM{error}: the upstream refuses stream {loss.stream} and has done nothing of it"
    return f"RST_STREAM{error}: the {who} ends stream {loss.stream}, the connection goes on"
