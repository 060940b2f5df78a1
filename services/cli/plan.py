"""What `atlhyper up` is going to run, decided before anything is started."""

from dataclasses import dataclass
from pathlib import Path

from services.agent.settings import AgentSettings
from services.api.settings import ApiSettings
from services.cli import attach
from services.cli.attach import Attachment
from services.cli.supervisor import Say
from services.master.settings import MasterSettings
from services.runtime.bus.broker import BrokerSettings
from services.runtime.listen import Listen, any_port, free_listen
from services.runtime.settings import Settings, load


@dataclass(frozen=True)
class Plan:
    """What is to run, all settings read and checked before anything is started."""

    home: Path
    broker: BrokerSettings
    attachment: Attachment
    read_only: bool
    api_listen: str
    master_metrics: str
    agent_metrics: str

    @property
    def api_url(self) -> str:
        """Where the API is reached from this machine."""
        listen = Listen.parse(self.api_listen)
        everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}
        return f"http://{Listen(everywhere.get(listen.host, listen.host), listen.port)}"

    @classmethod
    def load(cls, say: Say) -> "Plan":
        """Raises UserError for the first setting that is wrong, and for a set port that is in use."""
        broker_settings, api, master, agent = (
            load(BrokerSettings),
            load(ApiSettings),
            load(MasterSettings),
            load(AgentSettings),
        )
        for settings, name in ((master, "NATS_URL"), (agent, "AGENT_MASTER_URL or NATS_URL")):
            if settings.was_set("nats_url"):
                say("broker", f"{name} is ignored: `up` runs a broker of its own (NATS_LISTEN moves it)")
                break
        attachment = attach.choose(
            agent.kubeconfig, agent.cluster_id if agent.was_set("cluster_id") else None
        )
        chosen: list[str] = [broker_settings.nats_listen]
        listens: list[tuple[Settings, str, str]] = [
            (api, "listen", "API_LISTEN"),
            (master, "metrics_listen", "MASTER_METRICS_LISTEN"),
            (agent, "metrics_listen", "AGENT_METRICS_LISTEN"),
        ]
        for owner, field, variable in listens:
            chosen.append(_port(owner, field, variable, chosen, say))
        return cls(
            home=broker_settings.home,
            broker=broker_settings,
            attachment=attachment,
            read_only=agent.read_only if agent.was_set("read_only") else not attachment.is_local,
            api_listen=chosen[1],
            master_metrics=chosen[2],
            agent_metrics=chosen[3],
        )


def _port(settings: Settings, field: str, variable: str, taken: list[str], say: Say) -> str:
    wanted: str = getattr(settings, field)
    anywhere = isinstance(settings, ApiSettings)  # which asks for a token
    got = free_listen(wanted, settings.was_set(field), name=variable, avoid=taken, anywhere=anywhere)
    listen = Listen.parse(got, variable)
    if listen.port == 0:  # chosen here, since others are told the address
        return str(Listen(listen.host, any_port(listen.host)))
    if got != wanted:
        say("up", f"{wanted} is in use, {variable} is {got} this time")
    return got
