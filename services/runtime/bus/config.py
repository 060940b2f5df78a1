"""The broker's configuration as text, generated from `schemas.topology`: embedded, and for `deploy/nats/`."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas import ids, topology
from schemas.topology import Export, Stream, User

_NANOSECONDS = 1_000_000_000


def stream_config(stream: Stream, replicas: int = 1) -> dict[str, Any]:
    """The JetStream configuration of a stream, as `$JS.API.STREAM.CREATE` and `nats stream add` read it."""
    config = {
        "name": stream.name,
        "description": stream.description,
        "subjects": list(stream.subjects),
        "retention": "limits",
        "discard": "old",
        "storage": "file",
        "compression": "none",  # frames are gzip already, the rest is small
        "num_replicas": replicas,
        "max_age": stream.max_age * _NANOSECONDS,
        "max_bytes": stream.max_bytes,
        "max_msgs": -1,
        "max_msg_size": -1,
        "max_msgs_per_subject": stream.max_messages_per_subject,
        "max_consumers": stream.max_consumers,
        "duplicate_window": stream.duplicate_window * _NANOSECONDS,
        "deny_delete": True,
        "deny_purge": True,
        "allow_rollup_hdrs": False,
        "allow_direct": True,
        "mirror_direct": False,
        "sealed": False,
    }
    return config | {"allow_msg_ttl": True} if stream.message_ttl else config


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What differs between one broker and the next."""

    name: str
    listen: str
    store: str
    tls_certificate: str = ""
    tls_key: str = ""
    log_file: str = ""
    pid_file: str = ""


def server_text(server: Server) -> str:
    """server.conf; it includes accounts.conf from the same folder."""
    lines = [
        f"server_name: {_quote(server.name)}",
        f"listen: {_quote(server.listen)}",
        f"max_payload: {topology.MAX_PAYLOAD}",
        "max_connections: 20000",
        'write_deadline: "10s"',
        # Acknowledgement subjects of version 2 break nats-py; 2.16 turns them on by default.
        "feature_flags { js_ack_fc_v2: false }",
        "jetstream {",
        f"  store_dir: {_quote(server.store)}",
        f"  max_file_store: {topology.MAX_FILE_STORE}",
        f"  max_memory_store: {topology.MAX_MEMORY_STORE}",
        "  sync_interval: always  # what is acknowledged survives a loss of power",
        "}",
    ]
    if server.log_file:
        lines += [f"log_file: {_quote(server.log_file)}", "log_size_limit: 16777216", "logfile_max_num: 3"]
    if server.pid_file:
        lines.append(f"pid_file: {_quote(server.pid_file)}")
    if server.tls_certificate:
        lines.append(
            f"tls {{ cert_file: {_value(server.tls_certificate)}, key_file: {_value(server.tls_key)} }}"
        )
    return "\n".join([*lines, "include ./accounts.conf", ""])


def accounts_text(users: Iterable[tuple[User, str]]) -> str:
    """accounts.conf: the accounts, what crosses between them, and each user with its public nkey."""
    by_account: dict[str, list[str]] = {topology.CORE: [], topology.EDGE: [], topology.READ: []}
    for user, key in users:
        by_account[user.account].append(_user_text(user, key))
    return "\n".join(
        [
            "accounts {",
            "  # The broker's own account. Without users: nobody logs in there.",
            "  SYS {}",
            "  # Streams and services.",
            *_account_text(topology.CORE, by_account[topology.CORE], jetstream=True),
            "  # Agents. What they publish reaches CORE as a service, so that a reply never enters it again.",
            *_account_text(topology.EDGE, by_account[topology.EDGE]),
            "  # People and third parties. What they ask reaches CORE in the same way.",
            *_account_text(topology.READ, by_account[topology.READ]),
            "}",
            "system_account: SYS",
            "",
        ]
    )


def _account_text(name: str, users: list[str], *, jetstream: bool = False) -> list[str]:
    lines = [f"  {name} {{"]
    if jetstream:
        lines += [
            "    jetstream {",
            f"      max_file: {topology.MAX_FILE_STORE}, max_memory: {topology.MAX_MEMORY_STORE}",
            f"      max_consumers: {topology.MAX_CONSUMERS}",
            "    }",
        ]
    if exports := [_export_text(export) for export in topology.EXPORTS if export.of == name]:
        lines += ["    exports: [", *exports, "    ]"]
    if imports := [_import_text(export) for export in topology.EXPORTS if export.to == name]:
        lines += ["    imports: [", *imports, "    ]"]
    return [*lines, "    users: [", *users, "    ]", "  }"]


def _export_text(export: Export) -> str:
    answers = ", response: stream" if export.several_answers else ""
    return f"      {{ {export.kind}: {_quote(export.subject)}, accounts: [{export.to}]{answers} }}"


def _import_text(export: Export) -> str:
    return f"      {{ {export.kind}: {{ account: {export.of}, subject: {_quote(export.subject)} }} }}"


def _user_text(user: User, key: str) -> str:
    return "\n".join(
        [
            f"      # {user.name}",
            f"      {{ nkey: {_value(key)}, permissions: {{",
            f"        publish: {{ allow: [{_list(user.publish)}] }}",
            f"        subscribe: {{ allow: [{_list(user.subscribe)}] }}",
            *(["        allow_responses: true"] if user.answers else []),
            "      } }",
        ]
    )


def _list(subjects: Iterable[str]) -> str:
    return ", ".join(_quote(subject) for subject in subjects)


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _value(text: str) -> str:
    """Quoted, but for a `$VARIABLE`: the broker fills in only those that are not quoted."""
    return text if text.startswith("$") else _quote(text)


# --- deploy/nats -------------------------------------------------------------------------------------

EXAMPLE_AGENT = ids.kubernetes("default-cluster")
"""The agent of the deployed accounts file; further ones are added beside it."""


def placeholder(user: str) -> str:
    """The environment variable with the public nkey of a user: `NATS_NKEY_MASTER`."""
    return "NATS_NKEY_" + user.upper().replace("-", "_")


def deploy_users() -> tuple[User, ...]:
    """The users of `deploy/nats/accounts.conf`."""
    return (*topology.CORE_USERS, topology.agent(EXAMPLE_AGENT))


def deploy_files() -> dict[str, str]:
    """`deploy/nats/`: text by path below the repository."""
    server = Server(
        name="atlhyper",
        listen="0.0.0.0:4222",
        store="/data/jetstream",
        tls_certificate="$NATS_TLS_CERT",
        tls_key="$NATS_TLS_KEY",
    )
    folder = Path("deploy/nats")
    files = {
        "server.conf": _GENERATED + server_text(server),
        "accounts.conf": _GENERATED
        + accounts_text((user, f"${placeholder(user.name)}") for user in deploy_users()),
        "README.md": _readme(),
    }
    for stream in topology.STREAMS:
        files[f"streams/{stream.name}.json"] = json.dumps(stream_config(stream), indent=2) + "\n"
    return {str(folder / name): text for name, text in files.items()}


_GENERATED = "# Generated from schemas/topology.py by `python -m services.cli.generate`. Do not edit.\n"


def _readme() -> str:
    variables = "\n".join(f"| `{placeholder(user.name)}` | {user.name} |" for user in deploy_users())
    streams = "\n".join(
        f"| `{stream.name}` | {stream.description} | {stream.max_age // topology.HOUR} h "
        f"| {stream.max_bytes // topology.MIB} MiB |"
        for stream in topology.STREAMS
    )
    return f"""<!-- Generated from schemas/topology.py by `python -m services.cli.generate`. Do not edit. -->
# The broker in production

A NATS server of version 2.15 with JetStream. `atlhyper up` needs none of this: it runs one of its own.

## Users

Every user is an nkey. The broker reads the public keys from its environment:

| variable | user |
|---|---|
{variables}

`atlhyper bus credentials KIND ID` makes the credential of an agent and prints its public key. Add further
agents to EDGE in `accounts.conf`, each with its own two permission lists, and reload the broker (SIGHUP).
`NATS_TLS_CERT` and `NATS_TLS_KEY` are the paths of the broker's certificate and key.

```
nats-server -c server.conf
```

## Streams

| stream | what | kept | reserved |
|---|---|---|---|
{streams}

Either `atlhyper bus apply` as the user `operator`, or, with the nats command:

```
for file in streams/*.json; do nats stream add --config "$file"; done
```

`atlhyper bus apply --dry-run` shows what differs. On a cluster add `--replicas 3` to either.
"""
