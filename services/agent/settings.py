"""The agent's settings: every `AGENT_…` variable."""

import re
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, field_validator
from pydantic_settings import SettingsConfigDict

from schemas.ids import ID_PATTERN, Target
from services.runtime.settings import BusSettings, Duration, MetricsSettings

_GVR = re.compile(r"[a-z0-9-]+\.v[a-z0-9]+(\.[a-z0-9.-]+)?")
_LABEL = re.compile(
    r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
    r"=([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?"
)
"""A label as Kubernetes writes it, key and value."""
_RULE = re.compile(
    r"(read|write|get|list|create|update|patch|delete):(\*|[a-z0-9][-a-z0-9]*)(\.[a-z0-9][-a-z0-9.]*)?"
    r"(/(status|scale))?(@[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)?"
)
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class AgentSettings(BusSettings, MetricsSettings):
    """What one agent serves, how often it speaks and how long it waits."""

    model_config = SettingsConfigDict(env_prefix="AGENT_")

    cluster_id: str = Field(default="default-cluster", pattern=f"^{ID_PATTERN}$")
    """The agent's id: 1 to 63 characters of a-z, 0-9 and '-', unique in the fleet."""

    nats_url: str = Field(
        default="nats://127.0.0.1:4222", validation_alias=AliasChoices("AGENT_MASTER_URL", "NATS_URL")
    )
    """Address of the NATS broker through which the master is reached."""

    labels: list[str] = []
    """By which people select agents, as `key=value`, separated by commas: `env=prod,region=eu`."""

    kubeconfig: str = ""
    """Path of a kubeconfig file; empty: in-cluster, else the current context of the default kubeconfig."""

    read_only: bool = True
    """Whether the agent refuses whatever changes its cluster."""

    dynamic: list[str] = ["read:*"]
    """What the action `dynamic` may ask the API server for, where the agent's role allows it: rules
    `<verb>:<resource>[/<subresource>][@<namespace>]`, separated by commas. The verb is get, list, create,
    update, patch or delete, `read` for the first two, `write` for the others; the resource is `*`, kubectl's
    plural, `<plural>.<group>` or `*.<group>`: `read:*,patch:configmaps@web,write:widgets.example.com`.
    Secrets are never asked for."""

    namespaces: list[str] = []
    """Namespaces to collect, separated by commas; empty: all. What has no namespace is always collected."""

    resources: list[str] = []
    """Further resources to collect whole, as `<plural>.<version>[.<group>]`, separated by commas."""

    secrets: Literal["metadata", "off"] = "metadata"
    """`metadata`: names, types and numbers of keys of Secrets, never values; `off`: not collected."""

    snapshot_interval: Duration = 30.0
    """Time between digests, by which the master proves that it holds what the agent holds."""

    snapshot_full_interval: Duration = 3600.0
    """Time between full snapshots, give or take a tenth."""

    heartbeat_interval: Duration = 15.0
    """Time between heartbeats; two missed make the agent stale, three lost."""

    event_flush_interval: Duration = 1.0
    """Time within which several versions of one Kubernetes Event are sent as the last one."""

    state: Path | None = None
    """File with the Events that the master has not confirmed yet; by default `agent/<kind>_<id>.db` under
    ATLHYPER_HOME. One agent per file."""

    spool_bytes: int = Field(default=64 * 1024 * 1024, ge=1024 * 1024)
    """Bytes that these Events may take; beyond it the oldest are dropped, and the agent says so."""

    timeout_confirm: Duration = 30.0
    """Time without a confirmation after which Events are sent again, give or take a fifth."""

    timeout_http_client: Duration = 60.0
    """Limit of one request to the API server."""

    timeout_snapshot_collect: Duration = 30.0
    """Limit of one page of a list."""

    timeout_watch: Duration = Field(default=45.0, ge=1.0, le=75.0)
    """Time after which the API server ends a watch; five seconds more of silence, and it can't be reached."""

    command_poll_interval: Duration = 1.0
    """Time to wait after a failed attempt to ask for commands, give or take half."""

    timeout_command_poll: Duration = 60.0
    """Time without an answer to that after which the agent says so."""

    timeout_heartbeat: Duration = 10.0
    """Limit of sending one heartbeat."""

    log_sessions: int = Field(default=50, ge=0, le=1000)
    """Readers of logs that are served at once; further ones are told so."""

    metrics_listen: str = "127.0.0.1:9465"
    """Address of `/livez`, `/readyz`, `/metrics`; loopback only. A default port in use moves to the next."""

    @property
    def label_map(self) -> dict[str, str]:
        """The labels by key."""
        return dict(label.split("=", 1) for label in self.labels)

    def state_file(self, target: Target) -> Path:
        """Where the agent of `target` keeps what must outlive it."""
        return self.state.expanduser() if self.state else self.home / "agent" / f"{target.durable}.db"

    @field_validator(
        "snapshot_interval", "snapshot_full_interval", "heartbeat_interval",
        "timeout_confirm", "timeout_http_client", "timeout_snapshot_collect", "timeout_heartbeat",
        "command_poll_interval", "timeout_command_poll",
    )  # fmt: skip
    @classmethod
    def _positive(cls, value: float) -> float:
        if value < 0.1:
            raise ValueError("a duration of at least 100ms is needed; write one such as 30s")
        return value

    @field_validator("namespaces")
    @classmethod
    def _are_namespaces(cls, value: list[str]) -> list[str]:
        for name in value:
            if not _NAMESPACE.fullmatch(name):
                raise ValueError(f"{name!r} is not the name of a namespace; separate names by commas")
        return value

    @field_validator("dynamic")
    @classmethod
    def _are_rules(cls, value: list[str]) -> list[str]:
        for rule in value:
            if not _RULE.fullmatch(rule):
                raise ValueError(
                    f"{rule!r} is no rule; write <verb>:<resource>[@<namespace>]: patch:configmaps@web"
                )
        return value

    @field_validator("labels")
    @classmethod
    def _are_labels(cls, value: list[str]) -> list[str]:
        for label in value:
            if not _LABEL.fullmatch(label):
                raise ValueError(f"{label!r} is no label; write key=value, such as env=prod")
        return value

    @field_validator("resources")
    @classmethod
    def _are_resources(cls, value: list[str]) -> list[str]:
        for name in value:
            if not _GVR.fullmatch(name):
                raise ValueError(
                    f"{name!r} is no resource; write <plural>.<version>[.<group>]: widgets.v1.example.com"
                )
        return value
