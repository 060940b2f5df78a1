"""From projections to what is sent."""

import sys

from schemas.frames import content_hash
from schemas.kubernetes.base import KubeObject
from schemas.kubernetes.event import KubernetesEvent
from schemas.kubernetes.kind import Kind
from services.agent.capability import NOTHING, Key, Observed


def observed(kind: Kind, obj: KubeObject) -> Observed:
    """The object as it is sent. Raises ValueError when it lacks what every object has."""
    meta = obj.metadata
    if not meta.name or not meta.uid:
        raise ValueError(f"no {'uid' if meta.name else 'name'} in its metadata")
    body = kind.encode(obj)
    state, desired, ready = obj.tally()
    return Observed(
        resource=kind.resource,
        key=Key(sys.intern(meta.namespace), meta.name),  # a namespace's name is kept once, not per object
        uid=meta.uid,
        body=body,
        hash=content_hash(kind.resource, meta.namespace, meta.name, body),
        state=state,
        desired=desired,
        ready=ready,
        about=_about(obj),
    )


def _about(obj: KubeObject) -> Key:
    if isinstance(obj, KubernetesEvent):
        return Key(obj.involved_object.namespace, obj.involved_object.kind)
    return NOTHING
