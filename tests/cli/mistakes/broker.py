"""Mistakes with the broker and its credentials, and those that only a broker or an API server notices."""

from services.runtime.errors import EXIT_TEMPORARY
from services.runtime.settings import EXIT_CONFIG
from tests.cli.mistakes.world import (
    A_KUBECONFIG,
    AGENT,
    NOBODY,
    Row,
    credential_of_another_broker,
    credential_open_to_others,
    issued,
    kubeconfig,
    wrong_token,
)

ROWS = [
    Row(
        "no broker",
        "bus show",
        f"no connection to the broker at nats://{NOBODY}",
        "NATS_URL",
        code=EXIT_TEMPORARY,
        env={"NATS_URL": f"nats://{NOBODY}"},
        prepare=issued("operator", "reader"),
    ),
    Row(
        "no credential",
        "bus apply",
        "no credential at {home}/nats/credentials/operator.nk",
        "NATS_CREDENTIALS",
        code=4,
    ),
    Row(
        "no broker, for the agent",
        AGENT,
        f"no connection to the broker at nats://{NOBODY}",
        "NATS_URL",
        code=EXIT_TEMPORARY,
        env={"AGENT_MASTER_URL": f"nats://{NOBODY}", **A_KUBECONFIG},
        prepare=issued("kubernetes_default-cluster"),
    ),
    Row(
        "no credential, for the agent",
        AGENT,
        "no credential at {home}/nats/credentials/kubernetes_default-cluster.nk",
        "NATS_CREDENTIALS",
        code=4,
        env=A_KUBECONFIG,
        prepare=kubeconfig,
    ),
    Row(
        "credential open to others",
        "bus apply",
        "can be read by others (mode 0644)",
        "chmod 600",
        code=4,
        prepare=credential_open_to_others,
    ),
]

AS_A = {"NATS_URL": "{broker}", "NATS_CREDENTIALS": "{credential}", "AGENT_CLUSTER_ID": "a"}
"""The environment of an agent that the broker knows."""
WITH_A_BROKER = [
    Row(
        "credential the broker does not know",
        "bus apply",
        "does not know the credential of user 'operator'",
        "NATS_CREDENTIALS",
        code=4,
        env={"NATS_URL": "{broker}"},
        prepare=credential_of_another_broker,
    ),
    Row(
        "credential the broker does not know, for the agent",
        AGENT,
        "does not know the credential of user 'kubernetes_a'",
        "atlhyper bus credentials",
        code=4,
        env={"NATS_URL": "{broker}", "AGENT_CLUSTER_ID": "a", **A_KUBECONFIG},
        prepare=issued("kubernetes_a"),
    ),
    Row(
        "kubeconfig that is not there",
        AGENT,
        "kubeconfig /nowhere does not exist",
        "AGENT_KUBECONFIG",
        code=EXIT_CONFIG,
        env=AS_A | {"AGENT_KUBECONFIG": "/nowhere"},
    ),
    Row(
        "context that is not there, for the agent",
        AGENT,
        "can't be used",
        "AGENT_KUBECONFIG",
        code=EXIT_CONFIG,
        env=AS_A | {"AGENT_KUBECONFIG": "{folder}/kubeconfig"},
        prepare=lambda world: kubeconfig(world, context="elsewhere"),
    ),
    Row(
        "API server that is not there",
        AGENT,
        f"{NOBODY}",
        "kubectl",
        code=EXIT_TEMPORARY,
        env=AS_A | {"AGENT_KUBECONFIG": "{folder}/kubeconfig"},
        prepare=kubeconfig,
    ),
]

WITH_A_CLUSTER = [
    Row(
        "token that is not, or no longer, valid",
        AGENT,
        "401",
        "kubectl get namespaces",
        code=EXIT_CONFIG,
        env=AS_A | {"AGENT_KUBECONFIG": "{folder}/kubeconfig"},
        prepare=wrong_token,
    ),
]

WITH_THE_SYSTEM = [
    Row(
        "a stream changed by hand",
        "doctor",
        "ATLHYPER_EVENTS differs in max_age",
        "`atlhyper bus apply` mends it",
    ),
]
