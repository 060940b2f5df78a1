"""deploy/kubernetes, rendered as `kubectl apply -k` does it."""

import subprocess
from pathlib import Path
from typing import Any

import yaml

from services.cli.cluster.build import ensure_binaries

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
AGENT = FOLDER / "agent"
SECRETS = FOLDER / "overlays" / "secrets"
ACTING = FOLDER / "overlays" / "acting"
NAME = "atlhyper-agent"

Manifest = dict[str, Any]
Right = tuple[str, str, str, str]
"""Verb, API group, resource, name of the one object (empty: all)."""


def render(folder: Path) -> list[Manifest]:
    """Every object of a kustomization."""
    kubectl = ensure_binaries(["kubectl"])["kubectl"]
    done = subprocess.run(
        [kubectl, "kustomize", folder], check=True, capture_output=True, text=True, timeout=60
    )
    return list(yaml.safe_load_all(done.stdout))


def one(manifests: list[Manifest], kind: str) -> Manifest:
    """The only object of its kind."""
    (found,) = [manifest for manifest in manifests if manifest["kind"] == kind]
    return found


def rights(role: Manifest) -> list[Right]:
    """What a role grants, each right apart."""
    return [
        (verb, group, resource, name)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [""])
        for verb in rule["verbs"]
    ]


def rule(right: Right) -> dict[str, list[str]]:
    """The rule that grants it."""
    verb, group, resource, name = right
    found = {"apiGroups": [group], "resources": [resource], "verbs": [verb]}
    return found | ({"resourceNames": [name]} if name else {})


def environment(manifests: list[Manifest]) -> dict[str, str]:
    """The variables of the agent's container."""
    (container,) = one(manifests, "Deployment")["spec"]["template"]["spec"]["containers"]
    (source,) = container["envFrom"]
    config = one(manifests, "ConfigMap")
    assert source["configMapRef"]["name"] == config["metadata"]["name"]
    return {**config["data"], **{entry["name"]: entry["value"] for entry in container["env"]}}
