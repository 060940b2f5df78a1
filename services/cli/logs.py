"""`atlhyper logs`: what containers write, with kubectl's options, over whatever breaks on the way."""

import random
import re
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import rich_click as click

from services.cli import completion, options
from services.cli.acting.targets import clusters
from services.cli.client import Client, quote
from services.cli.context import resolve
from services.cli.log_lines import LogText
from services.cli.notes import note
from services.cli.options import Selection
from services.cli.resources import Query, queries
from services.runtime.errors import UserError

_RUNNING_TIMEOUT = "20s"
"""As the API has it, when nothing is said."""
_PAUSE = 0.5
_LONGEST_PAUSE = 10.0
"""Seconds between two tries to reach the API again."""
_ATTEMPTS = 5
"""Tries of an answer that has an end; what is followed is tried for ever."""
_NEXT = "`--ignore-errors` goes on with the others; `atlhyper describe pod NAME` shows how its containers are"
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ].*")


@click.command()
@click.argument("target", metavar="[POD|KIND/NAME]", required=False, shell_complete=completion.pods)
@options.where
@options.selector
@click.option("-c", "--container", "containers", multiple=True, help="Container; several for several.")
@click.option("--all-containers", is_flag=True, help="All containers of the pods.")
@click.option("--all-pods", is_flag=True, help="All pods, as ever, with --prefix.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written.")
@click.option("-p", "--previous", is_flag=True, help="Of the container's run before this one.")
@click.option(
    "--tail",
    type=click.IntRange(min=-1),
    help="Lines from the end of each container.  [default: all; with -l 10]",
)
@click.option("--since", help="Only what is not older than so long: 5s, 2m, 1h30m.")
@click.option("--since-time", help="Only what was written then or later: 2026-11-21T08:00:00Z.")
@click.option("--limit-bytes", type=click.IntRange(min=1), help="Bytes at most, of each container.")
@click.option("--timestamps", is_flag=True, help="Begin each line with its time.")
@click.option("--prefix", is_flag=True, help="Begin each line with its pod and container.")
@click.option("--ignore-errors", is_flag=True, help="What fails with one container does not end the others.")
@click.option(
    "--max-log-requests",
    type=click.IntRange(min=1),
    help="Containers that may be followed at once.  [default, and at most: 100]",
)
@click.option(
    "--pod-running-timeout",
    default=_RUNNING_TIMEOUT,
    show_default=True,
    help="How long to wait for a pod that is being started, or for the first one of a workload; at most 10m.",
)
@click.option(
    "--insecure-skip-tls-verify-backend",
    is_flag=True,
    help="The API server need not check who the kubelet is; somebody between them could change the lines.",
)
@options.context
def logs(
    target: str | None,
    where: Selection,
    containers: tuple[str, ...],
    all_containers: bool,
    all_pods: bool,
    follow: bool,
    previous: bool,
    tail: int | None,
    since: str | None,
    since_time: str | None,
    limit_bytes: int | None,
    timestamps: bool,
    prefix: bool,
    ignore_errors: bool,
    max_log_requests: int | None,
    pod_running_timeout: str,
    insecure_skip_tls_verify_backend: bool,
    context: str | None,
) -> None:
    """Show the logs of a pod, or of all pods of a workload or with some labels.

    The cluster's agent reads them now. With -f pods that come later are followed as well, and when API,
    broker or agent are away for a while it goes on where it was, without a gap or a repeat.

    Examples: `atlhyper logs web-0 -f`, `atlhyper logs deploy/web --prefix -f`,
    `atlhyper logs -l app=web --all-containers --since 10m --cluster prod-eu -n shop`
    """
    if bool(target) == bool(where.selector):
        raise UserError("name a pod or KIND/NAME, or select pods by -l", "see `atlhyper logs --help`", 2)
    if since and since_time:
        raise UserError("--since and --since-time exclude each other", "give one of them", 2)
    if since_time and not _TIME.fullmatch(since_time):
        raise UserError(
            f"{since_time!r} is not a date and time", "write --since-time 2026-11-21T08:00:00Z", 2
        )
    if where.namespace is None:
        raise UserError("logs are of one namespace", "give -n instead of -A", 2)
    if tail is None:
        tail = 10 if where.selector else -1  # as kubectl has it
    asked: dict[str, Any] = {
        "container": list(containers) or None,
        "allContainers": all_containers or None,
        "follow": (follow and not previous) or None,  # what is over does not grow
        "previous": previous or None,
        "tail": None if tail < 0 else tail,
        "since": since or since_time,
        "limitBytes": limit_bytes,
        "labelSelector": where.selector,
        "ignoreErrors": ignore_errors or None,
        "maxLogRequests": max_log_requests,
        "podRunningTimeout": pod_running_timeout,
        "insecureSkipTLSVerifyBackend": insecure_skip_tls_verify_backend or None,
    }
    with Client(resolve(context)) as client:
        cluster, *others = clusters(client, where)
        if others:
            raise UserError("logs are of one cluster", f"give --cluster {cluster}, say", 2)
        path = f"/clusters/{quote(cluster)}/logs/{_path(target, where)}"
        text = LogText(
            sys.stdout.buffer,
            timestamps=timestamps,
            prefix=prefix or all_pods,
            cut=asked["tail"] is not None or asked["since"] is not None,
            errors=ignore_errors,
        )
        _Reading(client, path, asked, text).run()


def _path(target: str | None, where: Selection) -> str:
    namespace = quote(where.namespace or "")
    if target is None:
        return namespace
    if "/" not in target:
        return f"{namespace}/{quote(target)}"
    query: Query = queries(target, ())[0]
    resource = "" if query.resource == "pods" else f"{quote(query.resource)}/"
    return f"{namespace}/{resource}{quote(query.name or '')}"


class _Reading:
    """One run: answers, until one ends as it should."""

    def __init__(self, client: Client, path: str, asked: dict[str, Any], text: LogText) -> None:
        self._client = client
        self._path = path
        self._asked = asked
        self._text = text
        self._told: set[str] = set()

    def run(self) -> None:
        """Raises UserError."""
        pause, attempts = _PAUSE, 0
        limited = self._asked["limitBytes"] is not None
        # What the limit counts is what is shown: nothing may be asked for besides.
        write = self._text.write_bare if limited else self._text.write
        reason = ""
        while True:
            seen = self._text.bytes
            try:
                for piece in self._answer():
                    write(piece)
                self._text.finish()
                return
            except UserError as error:
                before, reason = reason, self._text.interrupted()
                if reason and (reason == before or limited):  # it stands to what it says
                    raise UserError(reason, _NEXT) from None
                if error.exit_code != 1 or not self._text.begun or limited:
                    raise
                attempts = 1 if self._text.bytes > seen else attempts + 1
                if attempts >= _ATTEMPTS and not self._asked["follow"]:
                    raise
                if attempts > 1:  # an api that stops breaks its answers off, and another one goes on at once
                    note(f"{error.message}; trying again")
            pause = _PAUSE if attempts == 1 else min(pause * 2, _LONGEST_PAUSE)
            time.sleep(random.uniform(pause / 2, pause))

    def _answer(self) -> Iterator[bytes]:
        asked = self._asked | {"timestamps": True, "prefix": True}
        if asked["limitBytes"] is not None:
            asked |= {"timestamps": self._text.timestamps, "prefix": self._text.prefix}
        if self._text.begun:
            asked["resume"] = self._text.positions()
            if asked["follow"] and (asked["tail"] is not None or asked["since"]):
                # Of a container without a line yet, all that came since then is wanted.
                asked |= {"tail": None, "since": self._text.begun}
        seconds = _seconds(asked["podRunningTimeout"])
        if asked["podRunningTimeout"] == _RUNNING_TIMEOUT:
            asked["podRunningTimeout"] = None  # an older API does not know it
        return self._client.read(self._path, self._opened, seconds, **asked)

    def _opened(self, date: str, warnings: list[str]) -> None:
        """The answer has begun: the API's clock, and what was chosen or left out."""
        if not self._text.begun:
            self._text.begun = _earlier(date, self._asked.get("since"))
        for warning in warnings:
            if warning not in self._told:
                self._told.add(warning)
                note(warning)


def _seconds(duration: str) -> float:
    from services.runtime.settings import parse_duration

    try:
        return parse_duration(duration)
    except ValueError:
        return 0.0  # the API says what is wrong with it


def _earlier(date: str, since: str | None) -> str:
    """The time of the HTTP date; where a duration was asked for, that long before."""
    from email.utils import parsedate_to_datetime

    from services.runtime.settings import parse_duration

    if since and _TIME.fullmatch(since):
        return since
    try:
        seconds = parse_duration(since) if since else 0.0
        return f"{parsedate_to_datetime(date) - timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%SZ}"
    except (ValueError, TypeError):
        return "1970-01-01T00:00:00Z"
