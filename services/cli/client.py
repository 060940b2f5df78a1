"""The REST API as the command line reads it: whole lists, and failures as errors with a next step."""

import json
import random
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from services.cli.config import Context
from services.runtime.errors import UserError

if TYPE_CHECKING:
    import httpx

TIMEOUT = 30.0
"""Seconds for one request."""
_SILENCE = 45.0
"""Seconds without a byte after which a stream is dead: the API says something every 15."""
_QUIET = 300.0
"""Seconds without a byte after which a log is asked for again: a quiet one looks like a dead connection."""
_UNAUTHORIZED = 401
_UNAVAILABLE = 503
_ATTEMPTS = 5
_PAUSE = 0.2
"""Seconds before a request is sent once more; then twice as long each time."""
PAGE = 1000
"""Rows asked for at once."""

_EXIT_CODES = {400: 2, 401: 4, 403: 4, 404: 3, 408: 124, 504: 124}
_BY_PROBLEM = {
    "urn:atlhyper:problem:not-capable": 4,
    "urn:atlhyper:problem:query-timeout": 124,
    "urn:atlhyper:problem:too-slow": 124,
}
"""Exit codes of problems whose status says something else."""


class Client:
    """`with Client(resolve()) as client: …`. Every method raises UserError."""

    def __init__(self, context: Context, timeout: float | None = None) -> None:
        import httpx  # 0.1 s that `--help` does not pay

        self._context = context
        self._url = context.url.rstrip("/")
        self._timeout = TIMEOUT if timeout is None else timeout
        headers = context.headers
        # A redirection is not followed: the token is for this address. Nor has a proxy any business with
        # what stays on this machine.
        try:
            self._http = httpx.Client(
                base_url=self._url,
                headers=headers,
                timeout=self._timeout,
                follow_redirects=False,
                trust_env=not context.is_loopback,
            )
        except (httpx.InvalidURL, ValueError) as error:
            raise self._unreachable(error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, path: str, **parameters: Any) -> dict[str, Any]:
        """One answer; parameters that are None are left out."""
        import httpx

        try:
            response = self._http.get(f"/api/v1{path}", params=_given(parameters))
        except httpx.TimeoutException:
            raise UserError(
                f"the API at {self._url} did not answer within {self._timeout:g}s",
                "look at `atlhyper doctor`",
                124,
            ) from None
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise self._unreachable(error) from None
        return self._body(response)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """One answer. Asked again when the connection breaks: by its key the API knows it for the same."""
        import httpx

        headers = {"Idempotency-Key": str(uuid.uuid4())}
        broken: Exception | None = None
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(random.uniform(0.5, 1.0) * _PAUSE * 2**attempt)
            try:
                response = self._http.post(f"/api/v1{path}", json=body, headers=headers)
            except (httpx.TransportError, httpx.InvalidURL) as error:
                if broken is None and isinstance(error, httpx.ConnectError | httpx.UnsupportedProtocol):
                    raise self._unreachable(error) from None  # it has not been sent
                broken = error
            else:
                if response.status_code != _UNAVAILABLE or attempt == _ATTEMPTS - 1:
                    return self._body(response)
                broken = None
        raise UserError(
            f"the API at {self._url} was asked and did not answer: {broken or 'the connection broke'}",
            "it may have accepted: look before asking again, as with `atlhyper commands`",
        )

    def stream(self, path: str, **parameters: Any) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Server-Sent Events (event, id, data) until the API ends the answer; a comment gives `("", id, {})`.

        Raises UserError, its exit code 1 when the connection was lost.
        """
        import httpx

        patience = httpx.Timeout(self._timeout, read=_SILENCE)
        try:
            with self._http.stream(
                "GET", f"/api/v1{path}", params=_given(parameters), timeout=patience
            ) as answer:
                if answer.is_error:
                    answer.read()
                    self._body(answer)
                yield from _messages(answer.iter_lines())
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise self._unreachable(error) from None

    def read(
        self, path: str, opened: Callable[[str, list[str]], None], wait: float = 0.0, **parameters: Any
    ) -> Iterator[bytes]:
        """The bytes of an answer, as they come, to its end; first `opened` is given its date and warnings.

        `wait`: seconds until the answer may begin at the latest, beside those of any other.
        Raises UserError, its exit code 1 when the connection was lost.
        """
        import httpx

        given = [
            (name, value)
            for name, some in _given(parameters).items()
            for value in (some if isinstance(some, list) else [some])
        ]
        patience = httpx.Timeout(self._timeout, read=_QUIET + wait)
        # Not by httpx, which would write three bytes for each `:` of a long list.
        query = "&".join(f"{name}={urllib.parse.quote(_text(value), safe='/:@,')}" for name, value in given)
        try:
            with self._http.stream("GET", f"/api/v1{path}?{query}", timeout=patience) as answer:
                if answer.is_error:
                    answer.read()
                    self._body(answer)
                warnings = [_warning(text) for text in answer.headers.get_list("warning")]
                opened(answer.headers.get("date", ""), warnings)
                yield from answer.iter_raw()
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise self._unreachable(error) from None

    def _unreachable(self, error: Exception) -> UserError:
        return UserError(
            f"no API answers at {self._url}: {error}",
            "start one with `atlhyper up`, or set ATLHYPER_URL to the address of yours",
        )

    def _body(self, response: "httpx.Response") -> dict[str, Any]:
        try:
            body = response.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise UserError(
                f"what answers at {self._url} is not the AtlHyper API (status {response.status_code})",
                "set ATLHYPER_URL to its address",
            )
        if response.status_code == _UNAUTHORIZED:
            raise unauthorized(self._context, str(body.get("detail", "")))
        if response.is_error:
            code = _BY_PROBLEM.get(body.get("type", ""), _EXIT_CODES.get(response.status_code, 1))
            raise UserError(
                body.get("detail") or f"the API answered with status {response.status_code}",
                body.get("next", ""),
                code,
            )
        return body

    def pages(self, path: str, limit: int = 0, **parameters: Any) -> Iterator[dict[str, Any]]:
        """Every page of a list, up to `limit` rows in all; 0 for no limit."""
        token, rows = None, 0
        while True:
            size = min(PAGE, limit - rows) if limit else PAGE
            page = self.get(path, limit=size, **parameters, **{"continue": token})
            rows += len(page["items"])
            yield page
            token = page.get("continue")
            if not token or (limit and rows >= limit):
                return


def unauthorized(context: Context, detail: str) -> UserError:
    """What a person can do about a 401."""
    if context.token:
        message = f"{context.url} ({context.origin}) refuses the token: {detail}"
    else:
        message = f"{context.url} ({context.origin}) wants a token, and there is none for it"
    return UserError(
        message,
        "`atlhyper tokens create --name NAME`, run where the database is, prints one; then "
        "ATLHYPER_TOKEN=…, or `atlhyper context set NAME --token-file -`",
        4,
    )


def quote(text: str) -> str:
    """A segment of a path."""
    return urllib.parse.quote(text, safe="")


def _given(parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if value is not None}


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _warning(header: str) -> str:
    """The text of `299 - "text"` (RFC 9111, 5.5)."""
    text = header.partition('"')[2].removesuffix('"')
    return text.replace('\\"', '"').replace("\\\\", "\\")


def _messages(lines: Iterator[str]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """WHATWG HTML, 9.2.6; data is one line of JSON."""
    event, position, data = "", "", ""
    for line in lines:
        name, _, value = line.partition(": ")
        match name:
            case "event":
                event = value
            case "id":
                position = value
            case "data":
                data = value
            case "":
                if not line:
                    yield event, position, json.loads(data) if data else {}
                    event, data = "", ""
