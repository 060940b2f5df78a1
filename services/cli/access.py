"""What the agent may not do in its cluster, what that costs, and the commands that grant it."""

import re
import shlex
from collections import defaultdict

from services.agent.kubernetes.repository.access import IDENTITY, LOGS
from services.agent.kubernetes.sdk.interfaces import Access, KubernetesError
from services.agent.kubernetes.service.observation import SECRETS, KubernetesObservation
from services.cli.findings import Finding
from services.cli.readiness import EVENTS
from services.runtime.errors import UserError

_SHOWN = 60
"""Characters of the resources' names that a role is named after."""


async def findings(capability: KubernetesObservation) -> list[Finding]:
    """One for each set of verbs and each namespace in which rights are missing; one `ok` where none are.

    Raises UserError when the API server can't be asked.
    """
    try:
        user, lacking = await capability.lacking()
    except KubernetesError as error:
        raise UserError(
            f"access can't be asked for: {error.reason}", "see `kubectl auth can-i --list`"
        ) from error
    if not lacking:
        count = len(capability.scope().resources) + 1  # the Events
        return [Finding("ok", "access", f"may list and watch all {count} resources, and read logs")]
    verbs: dict[Access, list[str]] = defaultdict(list)
    for right in lacking:
        verbs[Access("", right.group, right.plural, right.namespace, right.name)].append(right.verb)
    alike: dict[tuple[tuple[str, ...], str, str], list[str]] = defaultdict(list)
    for right, missing in verbs.items():
        resource = f"{right.plural}.{right.group}" if right.group else right.plural
        alike[tuple(missing), right.namespace, right.name].append(resource)
    return [
        _finding(user, missing, namespace, name, resources)
        for (missing, namespace, name), resources in alike.items()
    ]


def _finding(user: str, verbs: tuple[str, ...], namespace: str, name: str, resources: list[str]) -> Finding:
    what = f"{' and '.join(verbs)} {', '.join(resources)}"
    if name:
        what += f" {name}"
    where = f" in namespace {namespace}" if namespace else ""
    text = f"{user or 'the agent'} may not {what}{where}: {_cost(name, resources)}"
    return Finding("warn", "access", text, _grant(user, verbs, namespace, name, resources))


def _cost(name: str, resources: list[str]) -> str:
    """What a person will miss."""
    if name == IDENTITY.name:
        return "the cluster's UID is unknown, so another cluster under the same id is not told"
    costs = []
    not_collected = [resource for resource in resources if resource not in (EVENTS, LOGS.plural)]
    if kinds := [resource.partition(".")[0] for resource in not_collected]:
        costs.append(f"not collected: {', '.join(kinds)}")
    if SECRETS in resources:
        costs.append("AGENT_SECRETS=off if that is meant")
    if EVENTS in resources:
        costs.append("no Kubernetes Events are recorded")
    if LOGS.plural in resources:
        costs.append("no logs of pods can be read")
    return "; ".join(costs)


def _grant(user: str, verbs: tuple[str, ...], namespace: str, name: str, resources: list[str]) -> str:
    """Commands for an administrator of the cluster."""
    kind, scope = ("role", f" --namespace={namespace}") if namespace else ("clusterrole", "")
    title = "-".join(["atlhyper", *verbs, re.sub("[./]", "-", "-".join(resources))[:_SHOWN].strip("-")])
    rule = f"--verb={','.join(verbs)} --resource={','.join(resources)}"
    if name:
        rule += f" --resource-name={name}"
    account = user.removeprefix("system:serviceaccount:")
    subject = f"--serviceaccount={account}" if account != user else f"--user={shlex.quote(user or 'USER')}"
    return (
        f"kubectl create {kind} {title} {rule}{scope} && "
        f"kubectl create {kind}binding {title} --{kind}={title} {subject}{scope}"
    )
