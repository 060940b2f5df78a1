"""Settings of the master."""

import socket

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.persistence import LONGEST_LEASE
from services.runtime.settings import BusSettings, Duration, MetricsSettings, StoreSettings


class MasterSettings(BusSettings, StoreSettings, MetricsSettings):
    """Variables of `atlhyper master`."""

    model_config = SettingsConfigDict(env_prefix="MASTER_")

    instance: str = Field(default_factory=socket.gethostname, pattern="^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")
    """Name of this master among its replicas, in its heartbeat and on its leases; by default the host's."""

    lease: Duration = Field(default=6.0, ge=1.0, le=LONGEST_LEASE)
    """How long another master waits before it takes over from one that says nothing any longer; the same for
    all. A lease is renewed six times in it."""

    heartbeat_interval: Duration = Field(default=5.0, ge=0.1, le=60.0)
    """Pause between two heartbeats of the master. They are the clock by which agents are judged: a lost agent
    is shown at the first one after three of its own heartbeats are missing."""

    resync_concurrency: int = Field(default=8, ge=1)
    """Agents that each master asks for their whole state at one time; the others wait for their turn."""

    resync_interval: Duration = Field(default=5.0, ge=0.1)
    """Pause, with jitter, before an agent that has not begun is asked again; it doubles each time. Also the
    pause before an agent whose id another one serves is told so again."""

    resync_patience: Duration = Field(default=30.0, ge=0.1)
    """After how long an agent that was asked and is not in sync makes room for the next one."""

    command_resend_interval: Duration = Field(default=10.0, ge=0.1, le=600.0)
    """Pause, with jitter, before an agent is asked what has become of a command of which it has said nothing;
    it grows to six times that. An agent that has the command answers, and does nothing again."""

    command_grace: Duration = Field(default=10.0, ge=0.1, le=600.0)
    """How long after a command's `finish_by`, and after an outage of the broker, a result may still be on its
    way; then the command ends as unknown."""

    tombstone_retention: Duration = Field(default=3600.0, ge=10.0)
    """How long it is known which objects were removed: a reader of changes that was away for longer reads all
    of them again."""

    retention: Duration = Field(default=30 * 86400.0, ge=60.0)
    """How long Kubernetes Events are kept after they were last seen, dead letters after they were stored,
    commands that have ended after their `finish_by`, and operations with their commands after their end."""
