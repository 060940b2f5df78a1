"""`atlhyper scale`, `restart`, `rollback`, `set-image`, `delete`, `cordon`, `uncordon`, `drain`."""

from collections.abc import Callable, Sequence
from typing import Any

import rich_click as click

from services.cli.acting import consent, spreading, targets
from services.cli.acting import options as acting
from services.cli.acting.options import Acting, Handling
from services.cli.acting.outcome import finish
from services.cli.acting.rollout import rollout
from services.cli.acting.running import Request, Runner, Task
from services.cli.acting.targets import Object
from services.cli.client import Client
from services.cli.context import resolve
from services.cli.options import Selection, context
from services.runtime.errors import UserError


@click.command(cls=Acting)
@acting.objects
@click.option("--replicas", type=click.IntRange(min=0), required=True, help="How many there are to be.")
@click.option("--current-replicas", type=click.IntRange(min=0), help="Only if there are so many now.")
@acting.handling
@rollout
@context
def scale(
    words: tuple[str, ...],
    where: Selection,
    everything: bool,
    replicas: int,
    current_replicas: int | None,
    handling: Handling,
    context: str | None,
) -> None:
    """Set how many replicas of a Deployment, StatefulSet or ReplicaSet there are.

    Examples: `atlhyper scale deploy/web --replicas 3 -n shop`,
    `atlhyper scale deploy web --replicas 0 --cluster eu,us -y`
    """
    params = {"replicas": replicas, "current_replicas": current_replicas}
    _on_objects(context, handling, where, words, everything, lambda about: _request("scale", about, **params))


@click.command(cls=Acting)
@acting.objects
@acting.handling
@rollout
@context
def restart(
    words: tuple[str, ...], where: Selection, everything: bool, handling: Handling, context: str | None
) -> None:
    """Replace the pods of a Deployment, StatefulSet or DaemonSet one after the other.

    Examples: `atlhyper restart deploy/web -n shop`, `atlhyper restart deploy -l tier=front -A -y`
    """
    _on_objects(context, handling, where, words, everything, lambda about: _request("restart", about))


@click.command(cls=Acting)
@acting.objects
@click.option("--to-revision", type=click.IntRange(min=0), default=0, help="0: the one before the present.")
@acting.handling
@rollout
@context
def rollback(
    words: tuple[str, ...],
    where: Selection,
    everything: bool,
    to_revision: int,
    handling: Handling,
    context: str | None,
) -> None:
    """Give a Deployment, StatefulSet or DaemonSet the pod template of an earlier revision.

    Examples: `atlhyper rollback deploy/web -n shop`, `atlhyper rollback deploy/web --to-revision 3 -n shop`
    """
    params = {"to_revision": to_revision}
    _on_objects(
        context, handling, where, words, everything, lambda about: _request("rollback", about, **params)
    )


@click.command("set-image", cls=Acting)
@acting.objects
@acting.handling
@rollout
@context
def set_image(
    words: tuple[str, ...], where: Selection, everything: bool, handling: Handling, context: str | None
) -> None:
    """Set the images of a workload's containers, each as CONTAINER=IMAGE; `*` stands for all of them.

    Examples: `atlhyper set-image deploy/web app=nginx:1.27 -n shop`,
    `atlhyper set-image ds -l app=agent '*=agent:2.0' -A`
    """
    images = dict(word.split("=", 1) for word in words if "=" in word)
    about = tuple(word for word in words if "=" not in word)
    if not about or not images or not all(key and value for key, value in images.items()):
        raise UserError(
            "set-image needs an object and an image for a container",
            "write it as in `atlhyper set-image deploy/web app=nginx:1.27`",
            2,
        )
    _on_objects(
        context, handling, where, about, everything, lambda one: _request("update_image", one, images=images)
    )


@click.command(cls=Acting)
@acting.objects
@click.option("--grace-period", type=click.IntRange(min=0), help="Seconds that containers have to end.")
@click.option("--now", is_flag=True, help="The same as --grace-period 1.")
@click.option("--force", is_flag=True, help="Do not wait for containers to end: --grace-period 0.")
@click.option(
    "--cascade",
    type=click.Choice(["background", "foreground", "orphan"]),
    help="What happens to what it owns.  [default: background]",
)
@click.option("--evict", is_flag=True, help="Pods: evict, which disruption budgets may refuse.")
@acting.handling
@rollout
@context
def delete(
    words: tuple[str, ...],
    where: Selection,
    everything: bool,
    grace_period: int | None,
    now: bool,
    force: bool,
    cascade: str | None,
    evict: bool,
    handling: Handling,
    context: str | None,
) -> None:
    """Delete objects. You are asked before, unless -y says that it is meant.

    Examples: `atlhyper delete pod/web-0 -n shop`, `atlhyper delete job -l done=yes -n shop -y`,
    `atlhyper delete pod web-0 --evict -y`
    """
    grace = _grace(grace_period, now=now, force=force)
    if evict and cascade:
        raise UserError("--evict and --cascade exclude each other", "leave one of them away", 2)

    def request(about: Object) -> Request:
        if about.resource == "pods" and not cascade:
            return _request("delete_pod", about, evict=evict, grace_period=grace)
        if evict:
            raise UserError(f"--evict is for pods, not for {about.resource}", "leave it away", 2)
        propagation = (cascade or "background").capitalize()
        return _request("delete", about, propagation=propagation, grace_period=grace)

    _on_objects(context, handling, where, words, everything, request)


def _grace(seconds: int | None, *, now: bool, force: bool) -> int | None:
    if now and (force or seconds is not None):
        raise UserError("--now excludes --force and --grace-period", "leave one of them away", 2)
    if seconds == 0 and not force:
        raise UserError("--grace-period 0 kills containers at once", "add --force if that is meant", 2)
    if force and seconds:
        raise UserError("--force leaves no grace period", "leave one of them away", 2)
    return 0 if force else 1 if now else seconds


@click.command(cls=Acting)
@acting.nodes
@acting.handling
@context
def cordon(words: tuple[str, ...], where: Selection, handling: Handling, context: str | None) -> None:
    """Keep further pods off nodes.

    Example: `atlhyper cordon node-1 node-2`
    """
    _on_nodes(context, handling, where, words, "cordon")


@click.command(cls=Acting)
@acting.nodes
@acting.handling
@context
def uncordon(words: tuple[str, ...], where: Selection, handling: Handling, context: str | None) -> None:
    """Let pods come to nodes again.

    Example: `atlhyper uncordon node-1`
    """
    _on_nodes(context, handling, where, words, "uncordon")


@click.command(cls=Acting)
@acting.nodes
@click.option("--ignore-daemonsets", is_flag=True, help="Leave their pods: they would come back at once.")
@click.option("--delete-emptydir-data", is_flag=True, help="Evict pods whose emptyDir data is lost.")
@click.option("--force", is_flag=True, help="Evict pods that nothing makes again.")
@click.option("--disable-eviction", is_flag=True, help="Delete pods past disruption budgets.")
@click.option("--pod-selector", default="", help="Only pods with these labels.")
@click.option("--grace-period", type=click.IntRange(min=0), help="Seconds that containers have to end.")
@acting.handling
@context
def drain(
    words: tuple[str, ...],
    where: Selection,
    ignore_daemonsets: bool,
    delete_emptydir_data: bool,
    force: bool,
    disable_eviction: bool,
    pod_selector: str,
    grace_period: int | None,
    handling: Handling,
    context: str | None,
) -> None:
    """Cordon nodes and evict their pods. It goes on when you stop waiting.

    Examples: `atlhyper drain node-1 --ignore-daemonsets -y`,
    `atlhyper drain -l pool=old --ignore-daemonsets --delete-emptydir-data --timeout 30m`
    """
    _on_nodes(
        context,
        handling,
        where,
        words,
        "drain",
        ignore_daemon_sets=ignore_daemonsets,
        delete_empty_dir_data=delete_emptydir_data,
        force=force,
        disable_eviction=disable_eviction,
        pod_selector=pod_selector,
        grace_period=grace_period,
    )


def _request(action: str, about: Object, **params: Any) -> Request:
    return Request(action=action, about=about, params=params)


def _on_objects(
    context: str | None,
    handling: Handling,
    where: Selection,
    words: tuple[str, ...],
    everything: bool,
    request: Callable[[Object], Request],
) -> None:
    with Client(resolve(context)) as client:
        if going := handling.rollout:
            raise SystemExit(
                spreading.on_one_object(client, going, handling, where, words, request, everything=everything)
            )
        found = targets.objects(client, where, words, everything=everything)
        carry_out(client, [[request(about)] for about in found], handling)


def _on_nodes(
    context: str | None,
    handling: Handling,
    where: Selection,
    words: tuple[str, ...],
    action: str,
    **params: Any,
) -> None:
    with Client(resolve(context)) as client:
        found = targets.nodes(client, where, words)
        carry_out(client, [[_request(action, about, **params)] for about in found], handling)


def carry_out(client: Client, lanes: Sequence[Sequence[Request]], handling: Handling) -> None:
    """Ask whether it is meant, have it done, print how it went. Raises SystemExit with the exit code."""
    consent.ask([request for lane in lanes for request in lane], handling)
    runner = Runner(client, [[Task(request) for request in lane] for lane in lanes], handling)
    runner.run()
    raise SystemExit(finish(runner, handling.output))
