"""Settings of the api."""

import re
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from services.runtime.settings import BusSettings, Duration, StoreSettings

if TYPE_CHECKING:
    from services.api.http.limits import Limits

_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:.]+\](:[0-9]{1,5})?")


class ApiSettings(BusSettings, StoreSettings):
    """Variables of `atlhyper api`. Health and metrics are served on API_LISTEN as well."""

    model_config = SettingsConfigDict(env_prefix="API_")

    listen: str = "127.0.0.1:8080"
    """Address to serve HTTP on; beyond loopback only once there is a token (`atlhyper tokens create`). It has
    no TLS of its own. A default port in use moves to the next."""

    instance: str = ""
    """Name of this replica on the bus and in logs; empty: host name and port."""

    watch_readers: Annotated[int, Field(ge=0, le=100_000)] = 500
    """Readers that may follow the changes (`/api/v1/watch`) at a time; further ones are told to come back."""

    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may read the API in a browser, separated by commas, such as
    `https://console.example`; no wildcard. Empty: its own only."""

    max_requests: Annotated[int, Field(ge=1, le=100_000)] = 100
    """Requests that are answered at a time, those to `/api/v1/watch` apart; further ones are told to come
    back."""

    max_snapshots: Annotated[int, Field(ge=0, le=6)] = 2
    """Whole snapshots that are sent at a time: each holds one of 8 connections to the database."""

    max_waiters: Annotated[int, Field(ge=0, le=100_000)] = 200
    """Requests that wait for the end of a command (`?wait=30s`) at a time; they do not count among those that
    are answered."""

    max_log_readers: Annotated[int, Field(ge=0, le=10_000)] = 100
    """Readers of logs at a time; each holds at most 1 MiB of lines."""

    max_url: Annotated[int, Field(ge=1024, le=65_536)] = 16_384
    """Bytes of path and query at most."""

    max_headers: Annotated[int, Field(ge=1024, le=1_048_576)] = 65_536
    """Bytes of a request's headers at most."""

    max_body: Annotated[int, Field(ge=0, le=1_073_741_824)] = 1_048_576
    """Bytes of a request's content at most."""

    receive_timeout: Annotated[Duration, Field(gt=0)] = 10.0
    """Time in which the content of a request has to be there."""

    answer_timeout: Annotated[Duration, Field(gt=0)] = 120.0
    """Time in which an answer has to be made and taken; a slower reader is cut off. For as long a snapshot
    keeps SQLite from shortening its write-ahead log."""

    query_timeout: Annotated[Duration, Field(gt=0)] = 10.0
    """Time that one query of the database may take; a longer one ends with a problem that says so."""

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"{origin!r} is not an origin as browsers write it: scheme, host in lower case, and port "
                    "if it is not the default one, such as https://console.example"
                )
        return value

    @property
    def limits(self) -> "Limits":
        """What one request may be and take."""
        from services.api.http.limits import Limits  # the web framework, which `--help` does not wait for

        return Limits(
            body=self.max_body,
            url=self.max_url,
            headers=self.max_headers,
            requests=self.max_requests,
            snapshots=self.max_snapshots,
            waiters=self.max_waiters,
            receive=self.receive_timeout,
            answer=self.answer_timeout,
        )
