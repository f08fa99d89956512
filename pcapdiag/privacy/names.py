"""What names and words look like that may be shown, and what no word looks like.

Names tell which call it was, so they stay; but what stands where a name belongs need not be one. Every pattern here
takes time in proportion to its text: no repetition can give back what it took to another.
"""

from __future__ import annotations

import re
from typing import Final

# `user_id`, `filter[0]`, `X-Api-Key`, `utf8`; not `c2VjcmV0`: digits come at the end of a part.
_NAME: Final = re.compile(
    r"(?:[A-Za-z]{1,24}[0-9]{0,4}|[0-9]{1,6})(?:[\]\[_.:$-]{1,3}(?:[A-Za-z]{1,24}[0-9]{0,4}|[0-9]{1,6}))*\]?"
)
_LONGEST_NAME: Final = 64
_TELLING: Final = re.compile(
    r"(?i)authoriz|cookie|token|secret|api[_.-]?key|[_.-]key$|^x-key|accesskey|privatekey|passw|passphrase|pwd|credential"
    r"|signature|session|jwt|csrf|xsrf|assertion|bearer|^(?:auth|code|key|nonce|otp|pass|pin|pw|sess|sid|sig|sso|state)$"
    r"|(?:_|\b)(?:sess|sid|otp|pin|sig)(?:_?id)?$|^(?:php|j|asp)?sess"
)
_TELLING_SEGMENT: Final = re.compile(
    r"(?i)token|secret|api[_.-]?key|passw|session|jwt|credential|invit|magic|verif|confirm|unsubscribe|reset|signature|oauth"
)
_CERTAIN_SEGMENT: Final = re.compile(
    r"(?i)(?:(?:access|refresh|id|api|auth|user|reset)[_.-]?)?(?:tokens?|secrets?|api[_.-]?keys?|passw(?:or)?ds?|passphrase|pwd|jwt"
    r"|bearer|basic|otp|pin|sid|sessionids?|ssn|iban)"
)
_API_WORD: Final = re.compile(
    r"(?i)(?:v?[0-9]{1,3}|list|all|new|create|add|edit|update|delete|remove|revoke|refresh|renew|rotate|issue|generate|get|set"
    r"|check|verify|validate|validity|introspect|introspection|exchange|reset|forgot|forgotten|change|login|logout|me|info"
    r"|status|policy|strength|count|search|types?|users?|admin|index(?:\.[a-z]{2,4})?)"
)
_PLAIN_WORD: Final = re.compile(r"[A-Za-z]{0,20}(?:[_.-][A-Za-z]{1,20}){0,6}|v?[0-9]{1,6}|\*+")

_UUID: Final = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_RUN: Final = re.compile(r"[A-Za-z0-9]{20,}")
_LONG_HEX: Final = re.compile(r"[0-9A-Fa-f]+")
_LEAST_HEX: Final = 32

KNOWN_TOKEN: Final = re.compile(
    r"(?<![A-Za-z0-9])(?P<secret>"
    r"eyJ[\w-]{8,}+(?:\.[\w-]*+)*+"  # JSON Web Token, or base64 of other JSON
    r"|gh[pousr]_\w{16,}|github_pat_\w{16,}|gl[a-z]{2,5}-[\w-]{16,}|xox[a-z]-[\w-]{8,}|(?:AKIA|ASIA)[0-9A-Z]{12,}"
    r"|[sprw]k_(?:live|test)_\w{8,}|AIza[\w-]{20,}|ya29\.[\w.-]{8,}|npm_\w{20,}|pypi-[\w-]{16,}|hv[sbr]\.[\w-]{16,}"
    r"|SG\.[\w-]{8,}\.[\w-]{8,}|-----BEGIN [^\"]*)"
)
"""Tokens that say what they are by how they begin."""


def is_name(text: str) -> bool:
    """Whether a text may be the name of a parameter or field."""
    return len(text) <= _LONGEST_NAME and _NAME.fullmatch(text) is not None


def is_telling(name: str) -> bool:
    """Whether a name says that its value is a secret."""
    return _TELLING.search(name[-_LONGEST_NAME:]) is not None


def is_telling_segment(segment: str) -> bool:
    """Whether a segment of a path says that the next one may be a secret."""
    return len(segment) <= _LONGEST_NAME and _TELLING_SEGMENT.search(segment) is not None


def is_certain_segment(segment: str) -> bool:
    """Whether a segment of a path says that the next one is a secret, unless that is a word of an interface."""
    return len(segment) <= _LONGEST_NAME and _CERTAIN_SEGMENT.fullmatch(segment) is not None


def is_api_word(text: str) -> bool:
    """Whether a text is what interfaces call their methods and collections."""
    return len(text) <= _LONGEST_NAME and _API_WORD.fullmatch(text) is not None


def is_plain_word(text: str) -> bool:
    """Whether a text is made of words, or is a short number."""
    return len(text) <= _LONGEST_NAME and _PLAIN_WORD.fullmatch(text) is not None


def is_opaque(text: str) -> bool:
    """Whether a text holds what nobody would write by hand: long, of letters and digits in both cases, or long hex.

    A UUID is the name of a thing, and stays.
    """
    if len(text) < 20 or _UUID.fullmatch(text):
        return False
    for match in _RUN.finditer(text):
        run = match[0]
        has_digit = any(c.isdigit() for c in run)
        if has_digit and run != run.lower() and run != run.upper():
            return True
        if len(run) >= _LEAST_HEX and has_digit and _LONG_HEX.fullmatch(run):
            return True
    return False
