"""What a report may pass on: credentials and the values of query strings stay where they were captured.

A report leaves the machine (tickets, chats); a request target often carries tokens. Keys stay, because they tell which
call it was. This module knows targets, nothing of reports.
"""

from __future__ import annotations

import re

MASK = "***"

_USERINFO = re.compile(r"(?P<before>^|//)[^/?#]+@")


def redact_target(target: str) -> str:
    """Return a request target without credentials and without the values of its query.

    Parameters
    ----------
    target : str
        Origin, absolute or authority form (RFC 9112 section 3.2), as captured.

    Returns
    -------
    str
        The same target; ``user:password@`` becomes ``***@``, ``?key=value&flag`` becomes ``?key=***&***``: a part
        without ``=`` is a value without a key.
    """
    path, mark, query = target.partition("?")
    path = _USERINFO.sub(rf"\g<before>{MASK}@", path)
    return f"{path}{mark}{_redact_query(query)}"


def _redact_query(query: str) -> str:
    parts = re.split(r"([&;])", query)
    return "".join(part if part in {"&", ";"} else _redact_part(part) for part in parts)


def _redact_part(part: str) -> str:
    key, mark, _ = part.partition("=")
    if mark:
        return f"{key}={MASK}"
    return MASK if part else ""
