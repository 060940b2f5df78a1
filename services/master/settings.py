"""Settings of the master."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.runtime.settings import BusSettings, Duration, MetricsSettings, StoreSettings


class MasterSettings(BusSettings, StoreSettings, MetricsSettings):
    """Variables of `atlhyper master`."""

    model_config = SettingsConfigDict(env_prefix="MASTER_")

    heartbeat_interval: Duration = Field(default=5.0, ge=0.1, le=60.0)
    """Pause between two heartbeats of the master. They are the clock by which agents are judged: a lost agent
    is shown at the first one after three of its own heartbeats are missing."""

    resync_concurrency: int = Field(default=8, ge=1)
    """Agents that are asked for their whole state at one time; the others wait for their turn."""

    resync_interval: Duration = Field(default=5.0, ge=0.1)
    """Pause, with jitter, before an agent that has not begun is asked again."""

    retention: Duration = Field(default=30 * 86400.0, ge=60.0)
    """How long Kubernetes Events are kept after they were last seen, dead letters after they were stored."""
