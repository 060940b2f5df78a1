"""Pages of the reference: settings by service; streams, types and permissions of the bus."""

from collections.abc import Iterable, Sequence

from schemas import ids, registry, topology
from schemas.topology import DAY, HOUR, MIB, Stream, User
from services.cli.reference.text import page, table
from services.runtime import failpoints
from services.runtime.settings import Settings, describe

_SETTINGS = """\
Variables of the environment, or lines `NAME=value` of the file that `ATLHYPER_ENV_FILE` names; the
environment wins. Empty means unset. Durations are a number and its unit: `500ms`, `30s`, `5m`, `1h`,
`2d`. Lists are separated by commas. A misspelt name is an error that names the right one.
"""

_SUBJECTS = f"""\
The direction comes first: `atlhyper.up.<kind>.<id>.…` from agents, `atlhyper.down.<kind>.<id>.…` to
them, `atlhyper.core.…` among the services. `<shard>` is crc32 of `<kind>/<id>`, modulo {ids.SHARDS}.
"""

_STREAMS = """\
Limits retention, the oldest are discarded; purge and delete are refused. `atlhyper bus apply` makes
them so, `atlhyper bus show` compares.
"""


def settings_page(models: Sequence[tuple[str, type[Settings]]]) -> dict[str, str]:
    """`docs/reference/settings.md`: every variable, by the command that reads it."""
    parts = [
        "# Settings",
        _SETTINGS,
    ]
    for title, model in models:
        parts.append(f"## {title}")
        parts.append(" ".join((model.__doc__ or "").split()))
        parts.append(
            table(
                ("Variable", "Default", "Meaning"),
                (
                    (
                        ", then ".join(f"`{name}`" for name in variable.names),
                        f"`{variable.default}`" if variable.default else "",
                        variable.description,
                    )
                    for variable in describe(model)
                ),
            )
        )
    parts.append("## The command line")
    parts.append(
        table(
            ("Variable", "Default", "Meaning"),
            [
                (
                    "`ATLHYPER_URL`",
                    "",
                    "Address of the API, before the config file and a running `atlhyper up`.",
                ),
                (
                    "`ATLHYPER_TOKEN`",
                    "",
                    "Token for the API, before the config file and that of `atlhyper up`.",
                ),
                ("`ATLHYPER_TOKEN_FILE`", "", "File that holds it, where `ATLHYPER_TOKEN` is not set."),
                (
                    "`ATLHYPER_ALLOW_PLAIN_HTTP`",
                    "",
                    "`true`: send the token over plain HTTP beyond this machine, where others can read it.",
                ),
                ("`ATLHYPER_CONTEXT`", "", "Name of a context of the config file, before all of these."),
            ],
        )
    )
    parts.append(
        "The config file is `~/.config/atlhyper/config.yaml` (under `XDG_CONFIG_HOME` where that is set) "
        "with `url` and `token`, or several of both as `contexts`, which `atlhyper context` writes; one that "
        "holds a token must be readable by its owner only."
    )
    points = ", ".join(f"`{point}`" for point in failpoints.Point)
    parts += [
        "## Tests",
        (
            f"`{failpoints.VARIABLE}` makes a service end, fail or wait at a named step: "
            f"`NAME:NTH:kill|raise|sleep=SECONDS`, several separated by commas. The steps: {points}."
        ),
    ]
    return {"docs/reference/settings.md": page(parts)}


def subjects_page() -> dict[str, str]:
    """`docs/reference/subjects.md`: streams, event types, users."""
    parts = [
        "# Subjects, streams and event types",
        _SUBJECTS,
        "## Streams",
        _STREAMS,
        table(
            ("Stream", "Subjects", "Kept", "At most", "What"),
            (_stream_row(stream) for stream in topology.STREAMS),
        ),
        "## Event types",
        table(
            ("Type", "Subject", "Stream", "Body"),
            (
                (
                    f"[`{event_type.name}`](../../schemas/json/{event_type.name}.schema.json)",
                    f"`{event_type.channel}`",
                    f"`{event_type.stream.name}`" if event_type.stream else "not stored",
                    event_type.description,
                )
                for event_type in registry.ALL.values()
            ),
        ),
        "## Users",
        "Each is an nkey. An agent may name nothing of another's.",
        *(part for user in (*topology.CORE_USERS, _sample_agent()) for part in _user(user)),
    ]
    return {"docs/reference/subjects.md": page(parts)}


def _sample_agent() -> User:
    return topology.agent(ids.kubernetes("my-cluster"))


def _user(user: User) -> Iterable[str]:
    yield f"### {user.name} (account {user.account})"
    yield table(
        ("May publish", "May subscribe"),
        [
            (
                "<br>".join(f"`{name}`" for name in user.publish),
                "<br>".join(f"`{name}`" for name in user.subscribe),
            )
        ],
    )


def _stream_row(stream: Stream) -> tuple[str, ...]:
    kept = f"{stream.max_age // DAY} d" if stream.max_age >= DAY else f"{stream.max_age // HOUR} h"
    if stream.max_messages_per_subject > 0:
        kept += f", {stream.max_messages_per_subject:,} per subject"
    return (
        f"`{stream.name}`",
        "<br>".join(f"`{subject}`" for subject in stream.subjects),
        kept,
        f"{stream.max_bytes // MIB} MiB",
        stream.description,
    )
