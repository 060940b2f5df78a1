"""The REST API as the command line reads it: whole lists, and failures as errors with a next step."""

import json
import urllib.parse
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from services.cli.context import Context
from services.runtime.errors import UserError

if TYPE_CHECKING:
    import httpx

TIMEOUT = 30.0
"""Seconds for one request."""
_SILENCE = 45.0
"""Seconds without a byte after which a stream is dead: the API says something every 15."""
PAGE = 1000
"""Rows asked for at once."""

_EXIT_CODES = {400: 2, 401: 4, 403: 4, 404: 3, 408: 124, 504: 124}
_TIMED_OUT = frozenset(f"urn:atlhyper:problem:{name}" for name in ("query-timeout", "too-slow"))
"""Problems that are time-outs, whatever their status."""


class Client:
    """`with Client(resolve()) as client: …`. Every method raises UserError."""

    def __init__(self, context: Context, timeout: float | None = None) -> None:
        import httpx  # 0.1 s that `--help` does not pay

        headers = {"Authorization": f"Bearer {context.token}"} if context.token else {}
        self._url = context.url.rstrip("/")
        self._timeout = TIMEOUT if timeout is None else timeout
        self._http = httpx.Client(base_url=self._url, headers=headers, timeout=self._timeout)

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
        if response.is_error:
            timed_out = body.get("type") in _TIMED_OUT
            raise UserError(
                body.get("detail") or f"the API answered with status {response.status_code}",
                body.get("next", ""),
                124 if timed_out else _EXIT_CODES.get(response.status_code, 1),
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


def quote(text: str) -> str:
    """A segment of a path."""
    return urllib.parse.quote(text, safe="")


def _given(parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if value is not None}


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
