"""Settings of the api."""

from pydantic_settings import SettingsConfigDict

from services.runtime.settings import BusSettings, StoreSettings


class ApiSettings(BusSettings, StoreSettings):
    """Variables of `atlhyper api`. Health and metrics are served on API_LISTEN as well."""

    model_config = SettingsConfigDict(env_prefix="API_")

    listen: str = "127.0.0.1:8080"
    """Address to serve HTTP on; loopback only, since it asks for no credentials yet. A default port in use
    moves to the next."""

    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may read the API in a browser, separated by commas. Empty: its own only."""
