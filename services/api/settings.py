"""Settings of the api."""

from typing import Annotated

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.runtime.settings import BusSettings, StoreSettings


class ApiSettings(BusSettings, StoreSettings):
    """Variables of `atlhyper api`. Health and metrics are served on API_LISTEN as well."""

    model_config = SettingsConfigDict(env_prefix="API_")

    listen: str = "127.0.0.1:8080"
    """Address to serve HTTP on; loopback only, since it asks for no credentials yet. A default port in use
    moves to the next."""

    instance: str = ""
    """Name of this replica on the bus and in logs; empty: host name and port."""

    watch_readers: Annotated[int, Field(ge=0, le=100_000)] = 500
    """Readers that may follow the changes (`/api/v1/watch`) at a time; further ones are told to come back."""

    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may read the API in a browser, separated by commas. Empty: its own only."""
