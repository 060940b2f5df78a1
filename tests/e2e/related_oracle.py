"""What is related to what, worked out from `kubectl get -o json`, as plainly as possible.

It looks at every pair of objects, and knows nothing of the code under test but the names of relations.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

Objects = dict[str, dict[str, Any]]
"""By id: `<resource>/<namespace or _>/<name>`, of Events by uid."""
Edge = tuple[str, str, str]
"""From, relation, to."""

_SELECTING = ("services", "deployments", "replicasets", "statefulsets", "daemonsets", "jobs")


def ids(listed: dict[str, list[dict[str, Any]]]) -> Objects:
    """The objects of `kubectl get`, by resource, by their ids."""
    objects: Objects = {}
    for resource, items in listed.items():
        for item in items:
            meta = item["metadata"]
            name = meta["uid"] if resource == "events" else meta["name"]
            objects[f"{resource}/{meta.get('namespace', '_')}/{name}"] = item
    return objects


def edges(objects: Objects, resources: dict[str, str]) -> set[Edge]:
    """Every edge between them, and those that lead to objects which are not there.

    `resources` gives the resource of each kind that is collected; of another one there is only the name.
    """
    return {edge for id_, item in objects.items() for edge in _edges_of(id_, item, objects, resources)}


def _edges_of(id_: str, item: dict[str, Any], objects: Objects, resources: dict[str, str]) -> Iterator[Edge]:
    resource, namespace, _ = id_.split("/", 2)
    meta, spec = item["metadata"], item.get("spec", {})

    def at(kind: str, name: str, where: str = namespace, version: str = "") -> str:
        wide = kind in ("Node", "PersistentVolume", "Namespace")
        group, _, _ = version.rpartition("/")
        unknown = f"{kind}.{group}" if group else kind
        return f"{resources.get(kind, unknown)}/{'_' if wide else where}/{name}"

    for owner in meta.get("ownerReferences", []):
        if owner.get("controller"):
            yield at(owner["kind"], owner["name"], version=owner["apiVersion"]), "owns", id_
    if resource in _SELECTING:
        for pod, other in objects.items():
            if pod.startswith(f"pods/{namespace}/") and _selects(resource, spec.get("selector"), other):
                yield id_, "selects", pod
    if resource == "pods":
        yield from _of_pod(id_, spec, at)
    if resource == "ingresses":
        for name in _backends(spec):
            yield id_, "routes-to", at("Service", name)
        for tls in spec.get("tls", []):
            yield id_, "uses", at("Secret", tls["secretName"])
    if resource == "persistentvolumeclaims" and spec.get("volumeName"):
        yield id_, "binds", at("PersistentVolume", spec["volumeName"])
    if resource == "persistentvolumes" and "claimRef" in spec:
        claim = spec["claimRef"]
        yield at("PersistentVolumeClaim", claim["name"], claim["namespace"]), "binds", id_
    if resource == "horizontalpodautoscalers":
        yield id_, "scales", at(spec["scaleTargetRef"]["kind"], spec["scaleTargetRef"]["name"])
    if resource == "events":
        involved = item["involvedObject"]
        where, version = involved.get("namespace", "_"), involved.get("apiVersion", "")
        yield id_, "concerns", at(involved["kind"], involved["name"], where, version)


def _of_pod(id_: str, spec: dict[str, Any], at: Any) -> Iterator[Edge]:
    if spec.get("nodeName"):
        yield id_, "runs-on", at("Node", spec["nodeName"])
    for volume in spec.get("volumes", []):
        if "ephemeral" in volume:
            yield id_, "mounts", at("PersistentVolumeClaim", f"{id_.split('/', 2)[2]}-{volume['name']}")
        sources = [volume, *volume.get("projected", {}).get("sources", [])]
        for source in sources:
            if "persistentVolumeClaim" in source:
                yield id_, "mounts", at("PersistentVolumeClaim", source["persistentVolumeClaim"]["claimName"])
            if "configMap" in source:
                yield id_, "mounts", at("ConfigMap", source["configMap"]["name"])
            if "secret" in source:
                secret = source["secret"]
                yield id_, "mounts", at("Secret", secret.get("secretName") or secret["name"])
    for container in (*spec.get("containers", []), *spec.get("initContainers", [])):
        for source in (
            *container.get("envFrom", []),
            *(e.get("valueFrom", {}) for e in container.get("env", [])),
        ):
            for key, kind in (("configMap", "ConfigMap"), ("secret", "Secret")):
                for suffix in ("Ref", "KeyRef"):
                    if key + suffix in source:
                        yield id_, "uses", at(kind, source[key + suffix]["name"])
    for pull in spec.get("imagePullSecrets", []):
        yield id_, "uses", at("Secret", pull["name"])


def _backends(spec: dict[str, Any]) -> set[str]:
    backends = [spec["defaultBackend"]] if "defaultBackend" in spec else []
    for rule in spec.get("rules", []):
        backends += [path["backend"] for path in rule.get("http", {}).get("paths", [])]
    return {backend["service"]["name"] for backend in backends if "service" in backend}


def _selects(resource: str, selector: dict[str, Any] | None, pod: dict[str, Any]) -> bool:
    labels = pod["metadata"].get("labels", {})
    if not selector:
        return False
    if resource == "services":
        return selector.items() <= labels.items()
    for expression in selector.get("matchExpressions", []):
        has, wanted = labels.get(expression["key"]), expression.get("values", [])
        holds = {
            "In": has in wanted,
            "NotIn": has not in wanted,
            "Exists": has is not None,
            "DoesNotExist": has is None,
        }
        if not holds[expression["operator"]]:
            return False
    return selector.get("matchLabels", {}).items() <= labels.items()


# --- what one graph has of them --------------------------------------------------------------------------

_UP, _DOWN = False, True
_BEHIND: dict[tuple[str, bool], set[tuple[str, bool]]] = {
    ("owns", _DOWN): {
        *((name, _DOWN) for name in ("owns", "runs-on", "mounts", "uses", "binds")),
        *((name, _UP) for name in ("selects", "scales", "concerns")),
    },
    ("owns", _UP): {("owns", _UP), ("scales", _UP)},
    ("selects", _DOWN): {("runs-on", _DOWN), ("owns", _UP)},
    ("selects", _UP): {("owns", _UP), ("scales", _UP), ("routes-to", _UP)},
    ("runs-on", _UP): {("owns", _UP)},
    ("routes-to", _DOWN): {("selects", _DOWN)},
    ("mounts", _DOWN): {("binds", _DOWN)},
    ("mounts", _UP): {("owns", _UP)},
    ("uses", _UP): {("owns", _UP)},
    ("binds", _UP): {("mounts", _UP)},
    ("scales", _DOWN): {("owns", _DOWN), ("selects", _DOWN)},
    ("concerns", _DOWN): {("runs-on", _DOWN), ("owns", _UP)},
}


def around(root: str, all_edges: set[Edge], objects: Objects) -> set[Edge]:
    """The edges of one object's graph: its own, and those behind them."""
    touching: dict[str, set[Edge]] = defaultdict(set)
    for edge in all_edges:
        touching[edge[0]].add(edge)
        touching[edge[2]].add(edge)
    found: set[Edge] = set()
    seen: set[tuple[str, str, bool]] = set()
    pending = [(root, edge) for edge in touching[root]]
    while pending:
        at, edge = pending.pop()
        source, relation, target = edge
        found.add(edge)
        steps = [(target, _DOWN)] if source == at else []
        steps += [(source, _UP)] if target == at else []
        for other, way in steps:
            if (other, relation, way) in seen or other not in objects:
                continue
            seen.add((other, relation, way))
            for following in touching[other]:
                ways = {(following[1], _DOWN)} if following[0] == other else set()
                ways |= {(following[1], _UP)} if following[2] == other else set()
                if ways & _BEHIND.get((relation, way), set()):
                    pending.append((other, following))
    return found
