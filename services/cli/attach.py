"""Which cluster `atlhyper up` attaches: that of the kubeconfig, or the local control plane."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.runtime.errors import UserError

LOCAL = "local"
"""Cluster id of the control plane that `up` starts itself."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A cluster to attach. `kubeconfig` is what the agent reads; empty for the local one, not started yet."""

    kubeconfig: str
    context: str
    cluster_id: str

    @property
    def is_local(self) -> bool:
        return not self.kubeconfig


def choose(kubeconfig: str, cluster_id: str | None) -> Attachment:
    """The cluster of AGENT_KUBECONFIG, of KUBECONFIG or of `~/.kube/config`, else the local one.

    `cluster_id` is AGENT_CLUSTER_ID where it was set. Raises UserError for a kubeconfig that was named and
    cannot be used; only where there is none at all it is the local control plane.
    """
    for name, text in (("AGENT_KUBECONFIG", kubeconfig), ("KUBECONFIG", os.environ.get("KUBECONFIG", ""))):
        if text:
            return _from_files(name, text, cluster_id)
    default = Path.home() / ".kube" / "config"
    if default.exists():
        return _from_files(str(default), str(default), cluster_id)
    return Attachment("", LOCAL, cluster_id or LOCAL)


def id_of(context: str) -> str:
    """A cluster id after a context's name: lower case, `-` for every other character, at most 63 of them."""
    return re.sub(r"[^a-z0-9-]+", "-", context.lower()).strip("-")[:63].strip("-") or "cluster"


def _from_files(name: str, text: str, cluster_id: str | None) -> Attachment:
    """The current context of a list of files, as kubectl reads it: the first that names one decides."""
    paths = [Path(part).expanduser() for part in text.split(os.pathsep) if part]
    found = [path for path in paths if path.exists()]
    if not found:
        raise UserError(
            f"{name}: {text} does not exist",
            f"correct {name}, or unset it: without any kubeconfig a local control plane is started",
        )
    documents = [_read(path) for path in found]
    context = next((str(one["current-context"]) for one in documents if one.get("current-context")), "")
    known = [str(entry.get("name")) for one in documents for entry in one.get("contexts") or []]
    if not context:
        raise UserError(
            f"{name}: {text} has no current context",
            "choose one with `kubectl config use-context NAME`"
            + (f"; there are {', '.join(known)}" if known else ""),
        )
    if context not in known:
        raise UserError(
            f"{name}: the current context {context!r} is not in {text}",
            "choose another with `kubectl config use-context NAME`"
            + (f"; there are {', '.join(known)}" if known else ""),
        )
    return Attachment(os.pathsep.join(map(str, found)), context, cluster_id or id_of(context))


def _read(path: Path) -> dict[str, Any]:
    import yaml

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UserError(
            f"cannot read the kubeconfig {path}: {why}", f"check its owner and mode: ls -l {path}"
        ) from error
    except yaml.YAMLError as error:
        where = str(error).replace("\n", " ")
        raise UserError(
            f"the kubeconfig {path} is not YAML: {where}", "check it with `kubectl config view`"
        ) from error
    if not isinstance(document, dict):
        raise UserError(f"the kubeconfig {path} is empty", "check it with `kubectl config view`")
    return document
