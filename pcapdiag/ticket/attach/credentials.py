"""Where credentials come from: the environment, or the keyring of the operator. Never the command line, never a file.

They are shown to nobody: not in a message, not in a log, not when an object is printed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pcapdiag.base.errors import UsageError
from pcapdiag.ticket.attach.targets import Kind, Target

if TYPE_CHECKING:
    from collections.abc import Mapping

USER_VARIABLE = "PCAPDIAG_JIRA_USER"
VARIABLES = {
    Kind.JIRA: "PCAPDIAG_JIRA_TOKEN",
    Kind.JIRA_CLOUD: "PCAPDIAG_JIRA_TOKEN",
    Kind.GITHUB: "PCAPDIAG_GITHUB_TOKEN",
    Kind.GITLAB: "PCAPDIAG_GITLAB_TOKEN",
    Kind.WEBHOOK: "PCAPDIAG_WEBHOOK_TOKEN",
}
KEYRING_SERVICE = "pcapdiag"

# What an HTTP field may hold; anything else would end the field.
_TOKEN = re.compile(r"[!-~]{1,4096}")


@dataclass(frozen=True, slots=True)
class Credentials:
    """A token, the account that it belongs to where the server wants to know, and where both came from."""

    token: str = field(repr=False)
    user: str = field(default="", repr=False)
    source: str = ""


def find_credentials(target: Target, environment: Mapping[str, str]) -> Credentials | None:
    """Return the credentials for a target, None where there are none.

    Parameters
    ----------
    target : Target
        Where the bundle goes.
    environment : mapping of str to str
        Such as `os.environ`.

    Returns
    -------
    Credentials or None
        Safe to put into an HTTP field.

    Raises
    ------
    UsageError
        A token holds characters that no token has.
    """
    variable = VARIABLES[target.kind]
    user = environment.get(USER_VARIABLE, "") if target.kind in {Kind.JIRA, Kind.JIRA_CLOUD} else ""
    token, source = environment.get(variable, ""), variable
    if not token:
        token, source = _from_keyring(target.host), f"keyring, {KEYRING_SERVICE} {target.host}"
    if not token:
        return None
    if not _TOKEN.fullmatch(token) or (user and not _TOKEN.fullmatch(user)):
        msg = f"the credentials of {source} hold a blank, a line break or a letter that no token has; copy them again"
        raise UsageError(msg)
    return Credentials(token, user, source)


def require_credentials(target: Target, environment: Mapping[str, str]) -> Credentials | None:
    """Return the credentials for a target; a webhook alone may do without.

    Raises
    ------
    UsageError
        There are none; the text says where to put them.
    """
    found = find_credentials(target, environment)
    if found is None and target.kind is not Kind.WEBHOOK:
        msg = (
            f"there are no credentials for {target.host}: set {VARIABLES[target.kind]}, or store a token with "
            f"`keyring set {KEYRING_SERVICE} {target.host}` (pip install 'pcapdiag[keyring]')"
        )
        raise UsageError(msg)
    if found is not None and target.kind is Kind.JIRA_CLOUD and not found.user:
        msg = f"Jira Cloud wants to know whose token it is: set {USER_VARIABLE} to the e-mail address of the account"
        raise UsageError(msg)
    return found


def _from_keyring(host: str) -> str:
    try:
        import keyring  # noqa: PLC0415 - an extra, and only asked where the environment says nothing
        from keyring.errors import KeyringError, NoKeyringError  # noqa: PLC0415 - with it
    except ImportError:
        return ""
    try:
        return keyring.get_password(KEYRING_SERVICE, host) or ""
    except NoKeyringError:
        return ""
    except KeyringError as error:
        msg = f"the keyring did not answer ({type(error).__name__}); unlock it or set the environment variable instead"
        raise UsageError(msg) from error
