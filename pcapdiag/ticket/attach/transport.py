"""The one way to the network, under every client library: where a request may go, how long it takes, what it may say.

A request goes to the origins of its target and nowhere else, whatever a server answers: a redirect or a link to another
host gets no request, so no credential either. Answers are bounded in size and time. Errors are sentences without a
credential in them, even where the server repeats one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from io import BytesIO
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from pcapdiag.base.errors import AttachError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from requests import PreparedRequest, Response

T = TypeVar("T")

TIMEOUT_S = (10.0, 60.0)
"""[s] To connect, and between two pieces of data."""

MAX_ANSWER_BYTES = 8 << 20
MAX_ANSWER_S = 120.0
MAX_TRIES = 4
MAX_WAIT_S = 60.0
"""[s] Longest wait that a server may ask for; who asks for more is told to the operator."""

_MAX_MESSAGE = 300
_PIECE_BYTES = 1 << 16
_NOW = 429
_LEAST_SERVER_ERROR = 500


class RefusedError(AttachError):
    """The server has said no; saying it again will not help.

    Parameters
    ----------
    text : str
        The sentence for the operator.
    status : int
        Status code of the answer.
    """

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class UnclearError(AttachError):
    """Nobody knows whether the request was carried out, or the server wants it later.

    Parameters
    ----------
    text : str
        The sentence for the operator.
    wait_s : float
        [s] How long the server wants to be left alone; -1 where it does not say.
    """

    def __init__(self, text: str, wait_s: float = -1.0) -> None:
        super().__init__(text)
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True)
class TransportPolicy:
    """What a transport is allowed and what it must not repeat.

    Attributes
    ----------
    origins : frozenset of str
        Scheme, host and port of each server that may be asked.
    host : str
        For messages.
    source : str
        Where the credentials came from, for messages.
    secrets : tuple of str
        What no message may hold.
    """

    origins: frozenset[str]
    host: str
    source: str
    secrets: tuple[str, ...] = ()


class Transport(HTTPAdapter):
    """An adapter for `requests` sessions that keeps to its way; it never repeats a request by itself.

    Parameters
    ----------
    way : TransportPolicy
        Where requests may go.
    """

    def __init__(self, way: TransportPolicy) -> None:
        super().__init__(max_retries=0)
        self._way = way

    def mount(self, session: requests.Session) -> None:
        """Make this the only way out of a session."""
        session.adapters.clear()
        for scheme in ("https://", "http://"):
            session.mount(scheme, self)

    def send(
        self,
        request: PreparedRequest,
        stream: bool = False,  # noqa: ARG002, FBT001, FBT002 - the signature of requests
        timeout: Any = None,  # noqa: ARG002 - one for all
        verify: bool | str = True,  # noqa: FBT001, FBT002 - the signature of requests
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> Response:
        """Send one request and return its answer, read to the end; any other outcome is an error."""
        url = request.url or ""
        origin = origin_of(url)
        if origin not in self._way.origins:
            msg = f"{self._way.host} points to {origin}, which was not asked for: nothing was sent there"
            raise AttachError(msg)
        is_clear = url.startswith("http://")  # this machine; a proxy would carry it elsewhere
        try:
            response = super().send(
                request,
                stream=True,
                timeout=TIMEOUT_S,
                verify=verify or True,
                cert=cert,
                proxies={} if is_clear else proxies,
            )
            response.raw = BytesIO(self._read(response))
        except requests.exceptions.SSLError as error:
            msg = (
                f"this machine does not trust the certificate of {self._way.host}; if an authority of your own signed "
                "it, name its file in REQUESTS_CA_BUNDLE"
            )
            raise AttachError(msg) from error
        except requests.exceptions.ProxyError as error:
            msg = f"the proxy of HTTPS_PROXY does not lead to {self._way.host}"
            raise UnclearError(msg) from error
        except (requests.exceptions.RequestException, HTTPError, OSError) as error:
            what = "did not answer in time" if _is_timeout(error) else "could not be reached, or broke off"
            msg = f"{self._way.host} {what}; try again, what is there already is used"
            raise UnclearError(msg) from error
        self._judge(request, response)
        return response

    def _read(self, response: Response) -> bytes:
        body, end = b"", time.monotonic() + MAX_ANSWER_S
        while piece := response.raw.read1(_PIECE_BYTES, decode_content=True):
            body += piece
            if len(body) > MAX_ANSWER_BYTES or time.monotonic() > end:
                response.close()
                msg = f"{self._way.host} sends an answer without end"
                raise AttachError(msg)
        return body

    def _judge(self, request: PreparedRequest, response: Response) -> None:
        status, host = response.status_code, self._way.host
        if response.is_redirect:
            if request.method in {"GET", "HEAD"}:
                return  # followed by the session, through here
            msg = f"{host} moved what should be written to; give --to the address where the ticket is now"
            raise RefusedError(msg, status)
        if status < 400:
            return
        said = self._message(response)
        wait_s = _wait_s(response, datetime.now(UTC))
        if status == _NOW or status >= _LEAST_SERVER_ERROR or (status == 403 and wait_s >= 0):
            msg = f"{host} cannot now (status {status}){said}"
            raise UnclearError(msg, wait_s)
        raise RefusedError(_REFUSALS.get(status, _REFUSED).format(host=host, source=self._way.source) + said, status)

    def _message(self, response: Response) -> str:
        """Return what the server says of itself, one short line, without what must not be repeated."""
        try:
            content = response.json()
        except ValueError:
            return f" (status {response.status_code})"
        text = "; ".join(_texts(content))
        for secret in self._way.secrets:
            text = text.replace(secret, "***")
        text = " ".join(text.split())
        text = text if len(text) <= _MAX_MESSAGE else f"{text[:_MAX_MESSAGE]}..."
        return f": {text} (status {response.status_code})" if text else f" (status {response.status_code})"


_REFUSED = "{host} refuses"
_REFUSALS = {
    401: "{host} does not accept the credentials of {source}",
    403: "the credentials of {source} do not permit this on {host}",
    404: "there is no such ticket on {host}, or the credentials of {source} may not see it",
    413: "the bundle is larger than {host} takes; attach a bundle of fewer captures, or a link to it",
}


def _texts(content: Any) -> list[str]:
    """Return the messages of an error in the forms that Jira, GitHub and GitLab document."""
    if not isinstance(content, dict):
        return []
    found = []
    for key in ("message", "error", "error_description", "errorMessage", "errorMessages", "errors"):
        value = content.get(key)
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, list):
            found += [
                v if isinstance(v, str) else str(v.get("message", "")) for v in value if isinstance(v, str | dict)
            ]
        elif isinstance(value, dict):
            found += [f"{name}: {text}" for name, text in value.items()]
    return [text for text in found if text]


def origin_of(url: str) -> str:
    """Return scheme, host and port of a URL, as a target has them."""
    parts = urlsplit(url)
    default = {"https": 443, "http": 80}.get(parts.scheme)
    host = (parts.hostname or "").lower()
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port not in {None, default} else "")


def _is_timeout(error: Exception) -> bool:
    return isinstance(error, requests.exceptions.Timeout | TimeoutError) or "timed out" in str(error)


def _wait_s(response: Response, now: datetime) -> float:
    """Return how long the server wants to be left alone (RFC 9110 section 10.2.3, GitHub's rate limit); -1 if not."""
    after = response.headers.get("Retry-After", "").strip()
    if after.isascii() and after.isdigit() and len(after) < 10:
        return float(after)
    if after:
        try:
            return max((parsedate_to_datetime(after) - now).total_seconds(), 0.0)
        except (ValueError, TypeError):  # no date, or one without a zone
            return -1.0
    reset = response.headers.get("X-RateLimit-Reset", "")
    if response.headers.get("X-RateLimit-Remaining") == "0" and reset.isascii() and reset.isdigit() and len(reset) < 12:
        return max(int(reset) - now.timestamp(), 0.0)
    return -1.0


def repeat(step: Callable[[], T], *, say: Callable[[str], None], sleep: Callable[[float], None]) -> T:
    """Take a step until its outcome is known, a few times at most.

    Parameters
    ----------
    step : callable
        May be taken again after an `UnclearError`.
    say : callable
        Told of every wait.
    sleep : callable
        Such as `time.sleep`.

    Returns
    -------
    T
        What `step` returns.

    Raises
    ------
    RefusedError
        The server has said no.
    UnclearError
        It did not answer often enough, or asks for more patience than `MAX_WAIT_S`.
    """
    for number in range(MAX_TRIES - 1):
        try:
            return step()
        except UnclearError as error:
            wait_s = error.wait_s if error.wait_s >= 0 else float(2**number)
            if wait_s > MAX_WAIT_S:
                msg = f"{error}; it asks to wait {wait_s:.0f} s: repeat the command then"
                raise UnclearError(msg, error.wait_s) from error
            say(f"{error}; again in {wait_s:.0f} s")
            sleep(wait_s)
    return step()


def settle(
    find: Callable[[], T | None], make: Callable[[], T], *, say: Callable[[str], None], sleep: Callable[[float], None]
) -> tuple[T, bool]:
    """Look for a thing and make it where it is not; when it is not known whether it was made, look again.

    Parameters
    ----------
    find : callable
        Returns the thing, None if it is not there.
    make : callable
        Makes it.
    say, sleep
        As in `repeat`.

    Returns
    -------
    tuple of T and bool
        The thing, and whether it was made by this call.
    """
    started = False

    def step() -> tuple[T, bool]:
        nonlocal started
        found = find()
        if found is not None:
            return found, started
        started = True
        return make(), True

    return repeat(step, say=say, sleep=sleep)
