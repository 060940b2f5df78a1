"""The REST API as the command line reads it: whole lists, and failures as errors with a next step."""

from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from services.cli.context import Context
from services.runtime.errors import UserError

TIMEOUT = 30.0
"""Seconds for one request."""
PAGE = 1000
"""Rows asked for at once."""

_EXIT_CODES = {400: 2, 401: 4, 403: 4, 404: 3, 408: 124, 504: 124}


class Client:
    """`with Client(resolve()) as client: …`. Every method raises UserError."""

    def __init__(self, context: Context) -> None:
        import httpx  # 0.1 s that `--help` does not pay

        headers = {"Authorization": f"Bearer {context.token}"} if context.token else {}
        self._url = context.url.rstrip("/")
        self._http = httpx.Client(base_url=self._url, headers=headers, timeout=TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, path: str, **parameters: Any) -> dict[str, Any]:
        """One answer; parameters that are None are left out."""
        import httpx

        query = {name: value for name, value in parameters.items() if value is not None}
        try:
            response = self._http.get(f"/api/v1{path}", params=query)
        except httpx.TimeoutException:
            raise UserError(
                f"the API at {self._url} did not answer within {TIMEOUT:g}s", "look at `atlhyper doctor`", 124
            ) from None
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise UserError(
                f"no API answers at {self._url}: {error}",
                "start one with `atlhyper up`, or set ATLHYPER_URL to the address of yours",
            ) from None
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
            raise UserError(
                body.get("detail") or f"the API answered with status {response.status_code}",
                body.get("next", ""),
                _EXIT_CODES.get(response.status_code, 1),
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
