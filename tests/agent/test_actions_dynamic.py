"""`dynamic`, `apply` and `get_logs` on a real API server: objects without secrets, changes with proof."""

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.commands import ErrorCode
from schemas.kubernetes.redaction import REDACTED
from services.agent.capability import Done, Doubtful, Refused, Stale, Unprovable, Untouched
from services.agent.kubernetes.service.actions.allowing import AllowList
from services.agent.kubernetes.service.actions.base import APPLIED, COMMAND
from tests.agent.acting import Cluster, Doing, acting, command, deployment, refusal
from tests.agent.proxy import Fault, FaultProxy
from tests.waiting import until

CANARY = "canary-5f1d0c"
EVERYTHING = ("read:*", "write:*", "write:*/status", "write:*/scale")


@pytest.fixture
async def doing(cluster: Cluster) -> Any:
    """Acts as the administrator, with everything allowed that can be."""
    async with acting(cluster.plane.kubeconfig, dynamic=AllowList.parse(EVERYTHING)) as found:
        yield found


def config_map(name: str = "notes", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def with_secret(name: str = "web") -> dict[str, Any]:
    """A Deployment with a password in its environment, and in the copy that kubectl keeps."""
    manifest = deployment(name)
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    container["env"] = [{"name": "DB_PASSWORD", "value": CANARY}, {"name": "MODE", "value": "fast"}]
    return manifest


async def test_whole_objects_without_secrets(doing: Doing, cluster: Cluster) -> None:
    """get and list give everything but secrets, managedFields only where asked for, and when it was read."""
    await cluster.kubectl("apply", "-f", "-", stdin=json.dumps(with_secret()))
    deployments = {"group": "apps", "resource": "deployments", "namespace": cluster.namespace}
    one = (await doing("dynamic", verb="get", name="web", **deployments)).data
    assert one["read_at"].endswith("Z")
    assert one["object"]["spec"]["template"]["spec"]["containers"][0]["env"] == [
        {"name": "DB_PASSWORD", "value": REDACTED},
        {"name": "MODE", "value": REDACTED},
    ]
    assert "managedFields" not in one["object"]["metadata"]
    assert "kubectl.kubernetes.io/last-applied-configuration" not in one["object"]["metadata"]["annotations"]
    every = (await doing("dynamic", verb="list", managed_fields=True, **deployments)).data
    (item,) = every["items"]
    assert (item["apiVersion"], item["kind"]) == ("apps/v1", "Deployment")
    assert item["metadata"]["managedFields"]
    status = (await doing("dynamic", verb="get", name="web", subresource="scale", **deployments)).data
    assert status["object"]["kind"] == "Scale"
    assert CANARY not in json.dumps([one, every, status])


async def test_pages(doing: Doing, cluster: Cluster) -> None:
    """A list comes in pages; a selector narrows it; a token that is none is an error of the API server."""
    await cluster.create(*(config_map(f"note-{number}") for number in range(5)))
    await cluster.kubectl("wait", "--for=create", "configmap/kube-root-ca.crt", "--timeout=50s")
    asked = {"verb": "list", "resource": "configmaps", "namespace": cluster.namespace, "limit": 2}
    names: list[str] = []
    token = ""
    while True:
        page = (await doing("dynamic", continue_=token, **asked)).data
        names += [item["metadata"]["name"] for item in page["items"]]
        token = page["continue"]
        if not token:
            break
    assert len(names) == len(set(names)) == 6  # and kube-root-ca.crt
    only = await doing("dynamic", field_selector="metadata.name=note-3", **asked)
    assert [item["metadata"]["name"] for item in only.data["items"]] == ["note-3"]
    assert (await refusal(doing, "dynamic", continue_="none", **asked))[:2] == (ErrorCode.INVALID, 400)


async def test_writing(doing: Doing, cluster: Cluster) -> None:
    """create, update, every type of patch, and delete, each with the right media type and the mark."""
    asked = {"resource": "configmaps", "namespace": cluster.namespace}
    made = await doing("dynamic", verb="create", body=config_map(a="1"), **asked)
    assert made.data["object"]["metadata"]["annotations"][COMMAND]
    named = asked | {"name": "notes"}
    await doing("dynamic", verb="update", body=config_map(a="2"), **named)
    await doing("dynamic", verb="patch", body={"data": {"b": "1"}}, **named)
    json_patch = [{"op": "add", "path": "/data/c", "value": "1"}]
    await doing("dynamic", verb="patch", patch_type="json", body=json_patch, **named)
    await doing("dynamic", verb="patch", patch_type="strategic", body={"data": {"d": "1"}}, **named)
    outcome = await doing("dynamic", verb="patch", patch_type="apply", body=config_map(e="1"), **named)
    assert outcome.data["object"]["data"] == {"a": "2", "b": "1", "c": "1", "d": "1", "e": "1"}
    tried = await doing("dynamic", verb="patch", body={"data": {"f": "1"}}, dry_run=True, **named)
    assert tried.data["object"]["data"]["f"] == "1"
    managers = {e["manager"] for e in (await cluster.get("configmaps", "notes"))["metadata"]["managedFields"]}
    assert managers == {"atlhyper"}
    assert "f" not in (await cluster.get("configmaps", "notes"))["data"]
    await doing("dynamic", verb="delete", dry_run=True, **named)
    assert (await doing("dynamic", verb="delete", **named)).data["gone"]
    generated = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "some-"}}
    found = await doing("dynamic", verb="create", body=generated, **asked)
    assert found.data["object"]["metadata"]["name"].startswith("some-")


async def test_a_custom_resource(doing: Doing, cluster: Cluster) -> None:
    """What a definition has just brought is found; the server refuses strategic patches of it (415)."""
    kind = f"W{cluster.namespace.replace('-', '')}"
    plural, group = f"{kind.lower()}s", "example.com"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "kind": kind},
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
            ],
        },
    }
    asked = {"group": group, "resource": plural, "namespace": cluster.namespace}
    code, _, text = await refusal(doing, "dynamic", verb="list", **asked)
    assert (code, text) == (ErrorCode.NOT_FOUND, f"the cluster has no resource called {plural}.v1.{group}")
    await cluster.kubectl("create", "-f", "-", stdin=json.dumps(definition))
    try:
        await cluster.kubectl("wait", "--for=condition=Established", f"crd/{plural}.{group}", "--timeout=50s")

        async def served() -> bool:
            try:
                await doing("dynamic", verb="list", **asked)
            except Refused:
                return False
            return True

        await until(served)
        manifest = {
            "apiVersion": f"{group}/v1",
            "kind": kind,
            "metadata": {"name": "one", "namespace": cluster.namespace},
            "spec": {"apiToken": CANARY, "size": 3},
        }
        outcome = await doing("apply", manifest=manifest)
        assert outcome.data["resource"] == f"{plural}.v1.{group}"
        assert outcome.data["object"]["spec"] == {"apiToken": REDACTED, "size": 3}
        named = asked | {"name": "one", "body": {"spec": {"size": 4}}}
        code, status, _ = await refusal(doing, "dynamic", verb="patch", patch_type="strategic", **named)
        assert (code, status) == (ErrorCode.INVALID, 415)
        assert (await doing("dynamic", verb="patch", **named)).data["object"]["spec"]["size"] == 4
        await doing("delete", f"{plural}.v1.{group}", cluster.namespace, "one")
    finally:
        await cluster.kubectl("delete", "crd", f"{plural}.{group}", "--wait=false")


async def test_never(doing: Doing, cluster: Cluster) -> None:
    """Whatever is allowed: no Secrets, no tokens, no reviews, no connection into a pod, no other path."""
    await cluster.kubectl("create", "secret", "generic", "held", f"--from-literal=password={CANARY}")
    where = {"namespace": cluster.namespace}
    for params in (
        {"verb": "get", "resource": "secrets", "name": "held", **where},
        {"verb": "list", "resource": "secrets"},
        {"verb": "create", "resource": "secrets", "body": {}, **where},
        {"verb": "create", "group": "authentication.k8s.io", "resource": "tokenreviews", "body": {}},
        {
            "verb": "create",
            "group": "authorization.k8s.io",
            "resource": "selfsubjectrulesreviews",
            "body": {},
        },
    ):
        code, _, text = await refusal(doing, "dynamic", **params)
        assert (code, "never asked for" in text) == (ErrorCode.NOT_ALLOWED, True)
    pod = {"verb": "get", "resource": "pods", "name": "one", **where}
    for part in ("exec", "attach", "portforward", "proxy", "log", "token", "ephemeralcontainers", "eviction"):
        assert (await refusal(doing, "dynamic", **pod | {"subresource": part}))[0] == ErrorCode.INVALID
    for changes in (
        {"name": "../../secrets/held"},
        {"name": "one/exec"},
        {"name": "one%2fexec"},
        {"name": ".."},
        {"name": "one?x=1"},
        {"name": ""},
        {"resource": "pods/one/exec"},
        {"resource": "Secrets"},
        {"resource": "secrets%2f"},
        {"namespace": "a/b"},
        {"namespace": ".."},
        {"version": "v1/namespaces/x/secrets"},
        {"group": "../../api"},
    ):
        assert (await refusal(doing, "dynamic", **pod | changes))[0] == ErrorCode.INVALID, changes
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x", **where}, "data": {}}
    assert (await refusal(doing, "apply", manifest=secret))[0] == ErrorCode.NOT_ALLOWED
    await doing("delete", "secrets", cluster.namespace, "held")  # its metadata is all that is read


async def test_the_list_of_the_agent(cluster: Cluster) -> None:
    """What the setting does not name is refused, and the refusal says what would allow it."""
    await cluster.create(config_map())
    rules = ("get:configmaps", f"patch:configmaps@{cluster.namespace}", "read:*.apps", "write:pods/status")
    asked = {"resource": "configmaps", "namespace": cluster.namespace, "name": "notes"}
    async with acting(cluster.plane.kubeconfig, dynamic=AllowList.parse(rules)) as doing:
        await doing("dynamic", verb="get", **asked)
        await doing("dynamic", verb="patch", body={"data": {"a": "1"}}, **asked)
        await doing("dynamic", verb="list", group="apps", resource="deployments")
        code, _, text = await refusal(doing, "dynamic", verb="delete", **asked)
        assert (code, "delete:configmaps would" in text) == (ErrorCode.NOT_ALLOWED, True)
        for params in (
            {"verb": "list", "resource": "configmaps"},
            {"verb": "patch", "body": {}, **asked, "namespace": "default"},
            {"verb": "get", **asked, "resource": "pods"},
            {"verb": "patch", "body": {}, **asked, "resource": "pods"},
            {"verb": "delete", "group": "apps", "resource": "deployments", "namespace": "x", "name": "x"},
        ):
            assert (await refusal(doing, "dynamic", **params))[0] == ErrorCode.NOT_ALLOWED, params


async def test_what_is_refused(doing: Doing, cluster: Cluster) -> None:
    """What comes back redacted, misspelt fields, a wrong version, a name that is taken: none is written."""
    await cluster.create(with_secret(), config_map(a="1"))
    asked = {"group": "apps", "resource": "deployments", "namespace": cluster.namespace, "name": "web"}
    read = (await doing("dynamic", verb="get", **asked)).data["object"]
    for order in (
        ("dynamic", {"verb": "update", "body": read, **asked}),
        ("apply", {"manifest": read}),
    ):
        code, _, text = await refusal(doing, order[0], **order[1])
        assert (code, REDACTED in text) == (ErrorCode.INVALID, True)
    code, status, text = await refusal(doing, "dynamic", verb="patch", body={"spec": {"replica": 3}}, **asked)
    assert (code, status, 'unknown field "spec.replica"' in text) == (ErrorCode.INVALID, 422, True)
    code, status, text = await refusal(
        doing, "dynamic", verb="patch", body={"spec": {"replicas": -3}}, **asked
    )
    assert (code, status, "spec.replicas" in text) == (ErrorCode.INVALID, 422, True)
    old = {"metadata": {"resourceVersion": "1"}, "spec": {"replicas": 1}}
    assert (await refusal(doing, "dynamic", verb="patch", body=old, **asked))[:2] == (ErrorCode.CONFLICT, 409)
    notes = {"resource": "configmaps", "namespace": cluster.namespace}
    code, status, text = await refusal(doing, "dynamic", verb="create", body=config_map(), **notes)
    assert (code, status, "already exists" in text) == (ErrorCode.CONFLICT, 409, True)
    code, status, _ = await refusal(doing, "dynamic", verb="get", name="none", **notes)
    assert (code, status) == (ErrorCode.NOT_FOUND, 404)
    assert (await refusal(doing, "dynamic", verb="patch", name="notes", body=[], **notes))[
        0
    ] == ErrorCode.INVALID
    for how in (
        {"verb": "create"},
        {"verb": "update", "name": "notes"},
        {"verb": "patch", "name": "notes"},
        {"verb": "patch", "name": "notes", "patch_type": "strategic"},
    ):
        code, _, text = await refusal(doing, "dynamic", body={"metadata": "x"}, **how, **notes)
        assert (code, text) == (ErrorCode.INVALID, "params.body: metadata is not an object")


async def test_errors_hold_no_secrets(doing: Doing, cluster: Cluster) -> None:
    """The API server quotes the difference of two pods, environment included; nobody gets to see it."""
    await cluster.create(with_secret())
    await cluster.settled("deployments", "web")
    pod = (await cluster.every("pods"))[0]["metadata"]["name"]
    environment = [{"name": "DB_PASSWORD", "value": "canary-new-7a"}]
    body = {"spec": {"containers": [{"name": "app", "env": environment}]}}
    asked = {"resource": "pods", "namespace": cluster.namespace, "name": pod}
    code, status, text = await refusal(
        doing, "dynamic", verb="patch", patch_type="strategic", body=body, **asked
    )
    assert (code, status) == (ErrorCode.INVALID, 422)
    assert "pod updates may not change fields other than" in text
    assert CANARY not in text
    assert "canary-new" not in text


async def test_a_lost_answer_is_judged(cluster: Cluster, tmp_path: Path) -> None:
    """What carries the mark was done by it; what has changed without it is nobody's."""
    await cluster.create(config_map(a="1"))
    asked = {"resource": "configmaps", "namespace": cluster.namespace}
    named = asked | {"name": "notes"}
    everything = AllowList.parse(EVERYTHING)
    async with (
        FaultProxy(cluster.plane, tmp_path) as proxy,
        acting(proxy.kubeconfig, dynamic=everything) as doing,
    ):
        json_patch = [{"op": "add", "path": "/data/c", "value": "1"}]
        for order, method, path, proved in (
            (command("dynamic", verb="create", body=config_map("new"), **asked), "POST", "configmaps", True),
            (command("dynamic", verb="update", body=config_map(a="2"), **named), "PUT", "notes", True),
            (command("dynamic", verb="patch", body={"data": {"b": "1"}}, **named), "PATCH", "notes", True),
            (
                command("dynamic", verb="patch", patch_type="json", body=json_patch, **named),
                "PATCH",
                "notes",
                False,
            ),
            (command("dynamic", verb="delete", **named), "DELETE", "notes", True),
        ):
            seen = await doing.actions.look(order)
            assert isinstance(await doing.judge(order, seen), Untouched)
            fault = proxy.add(Fault(path, method=method, lost=True))
            with pytest.raises(Doubtful):
                await doing.perform(order, seen)
            assert fault.done == 1
            proxy.faults.clear()
            verdict = await doing.judge(order, seen)
            assert isinstance(verdict, Done if proved else Unprovable)
            if method in ("PUT", "PATCH"):
                with pytest.raises(Stale):
                    await doing.perform(order, seen)


async def test_any_text_is_applied(doing: Doing, cluster: Cluster) -> None:
    """An apply patch is read as YAML, which knows fewer characters than JSON, and escapes of its own."""
    text = "😀 ä \\ud83d \"'# \t\n\x01\x7f\x85\u2028\u2029\ufeff\ufffe\uffff\U0010ffff"
    manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "text", "namespace": cluster.namespace},
        "data": {"text": text},
    }
    await doing("apply", manifest=manifest)
    assert (await cluster.get("configmaps", "text"))["data"] == {"text": text}
    manifest["data"] = {"text": f"{text}!"}
    named = {"resource": "configmaps", "namespace": cluster.namespace, "name": "text"}
    params = {"verb": "patch", "patch_type": "apply", "version": "v1", "force": True}
    await doing("dynamic", **named, **params, body=manifest)
    assert (await cluster.get("configmaps", "text"))["data"] == manifest["data"]


async def test_apply(doing: Doing, cluster: Cluster, tmp_path: Path) -> None:
    """Created, configured, unchanged; a conflict names manager and field; a misspelt field is an error."""
    manifest = deployment(replicas=1)
    manifest["metadata"]["namespace"] = cluster.namespace
    tried = await doing("apply", manifest=manifest, dry_run=True)
    assert (tried.data["operation"], await cluster.every("deployments")) == ("created", [])
    outcome = await doing("apply", manifest=manifest)
    assert (outcome.data["operation"], outcome.data["name"]) == ("created", "web")
    assert (await doing("apply", manifest=manifest)).data["operation"] == "unchanged"
    manifest["spec"]["replicas"] = 2
    assert (await doing("apply", manifest=manifest)).data["operation"] == "configured"
    await cluster.kubectl("scale", "deployment/web", "--replicas=3")
    code, status, text = await refusal(doing, "apply", manifest=manifest)
    assert (code, status) == (ErrorCode.CONFLICT, 409)
    assert 'conflict with "kubectl" with subresource "scale"' in text
    assert ".spec.replicas" in text
    forced = command("apply", manifest=manifest, force=True)
    await doing.do(forced)
    found = await cluster.get("deployments", "web")
    assert found["spec"]["replicas"] == 2
    assert found["metadata"]["annotations"][f"{APPLIED}atlhyper"] == forced.id
    await doing(
        "update_image", "deployments", cluster.namespace, "web", images={"app": "registry.example/app:1"}
    )
    await doing("apply", manifest=manifest)  # our own marks are no conflict
    await doing("apply", manifest=manifest, field_manager="another")
    misspelt = {**manifest, "spec": manifest["spec"] | {"replica": 2}}
    code, status, text = await refusal(doing, "apply", manifest=misspelt)
    assert (code, "field not declared in schema" in text) == (ErrorCode.INVALID, True)
    for wrong in (
        {"apiVersion": "v1", "kind": "ConfigMap"},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "../x"}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}},  # in no namespace
        {"apiVersion": "v1", "kind": "List", "metadata": {}, "items": []},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": None}},
    ):
        assert (await refusal(doing, "apply", manifest=wrong))[0] == ErrorCode.INVALID
    for value in ("x", 1, True, ["x"]):
        wrong = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "annotations": value}}
        code, status, text = await refusal(doing, "apply", manifest=wrong, namespace=cluster.namespace)
        assert (code, status) == (ErrorCode.INVALID, 0)
        assert text == "params.manifest: metadata.annotations is not an object"
    placed = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}
    outcome = await doing("apply", manifest=placed, namespace=cluster.namespace)
    assert outcome.data["namespace"] == cluster.namespace
    unknown = {"apiVersion": "v1", "kind": "Nothing", "metadata": {"name": "x"}}
    assert (await refusal(doing, "apply", manifest=unknown))[0] == ErrorCode.NOT_FOUND
    await cluster.settled("deployments", "web")  # what the cluster writes meanwhile is another version
    async with FaultProxy(cluster.plane, tmp_path) as proxy, acting(proxy.kubeconfig) as through:
        manifest["spec"]["replicas"] = 4
        order = command("apply", manifest=manifest, force=True)
        seen = await through.actions.look(order)
        assert isinstance(await through.judge(order, seen), Untouched)
        proxy.add(Fault("web", method="PATCH", lost=True))
        with pytest.raises(Doubtful):
            await through.perform(order, seen)
        proxy.faults.clear()
        verdict = await through.judge(order, seen)
        assert isinstance(verdict, Done)
        assert verdict.outcome.data["operation"] == "configured"
        with pytest.raises(Stale):
            await through.perform(order, seen)


async def test_what_the_server_warns_of(doing: Doing, cluster: Cluster) -> None:
    """Its warnings come along, also when it only tries; the answer is the object as it would be."""
    manifest = deployment(replicas=1)
    manifest["metadata"]["namespace"] = cluster.namespace
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    container["resources"] = {"requests": {"memory": "1500m"}}
    named = {"group": "apps", "resource": "deployments", "namespace": cluster.namespace, "name": "web"}
    for dry_run in (True, False):
        outcome = await doing("apply", manifest=manifest, dry_run=dry_run)
        assert 'fractional byte value "1500m" is invalid' in " ".join(outcome.warnings)
        assert outcome.data["object"]["spec"]["revisionHistoryLimit"] == 10  # the server's default
    tried = await doing("dynamic", verb="patch", body={"spec": {"replicas": 3}}, dry_run=True, **named)
    assert "fractional byte value" in " ".join(tried.warnings)
    assert tried.data["object"]["spec"]["replicas"] == 3
    where = ("deployments", cluster.namespace, "web")
    images = {"app": "registry.example/app:2"}
    for action, params in (("scale", {"replicas": 5}), ("restart", {}), ("update_image", {"images": images})):
        tried = await doing(action, *where, dry_run=True, **params)
        assert "fractional byte value" in " ".join(tried.warnings), action


async def test_logs(doing: Doing, cluster: Cluster) -> None:
    """A piece of a log, from the container that kubectl takes; bounded, and it is said where it ends."""
    manifest = deployment(replicas=1)
    template = manifest["spec"]["template"]
    template["spec"]["containers"].append({"name": "side", "image": "registry.example/side:1"})
    await cluster.create(manifest)
    await cluster.settled("deployments", "web")
    (pod,) = await cluster.every("pods")
    where = ("pods", cluster.namespace, pod["metadata"]["name"])
    outcome = await doing("get_logs", *where)
    assert outcome.data["log"].startswith("starting\n")
    assert (outcome.data["container"], outcome.data["truncated"]) == ("app", False)
    assert outcome.warnings == ('Defaulted container "app" out of: app, side',)
    last = await doing("get_logs", *where, container="side", tail_lines=1, timestamps=True)
    assert last.data["log"].count("\n") == 1
    assert last.data["log"].startswith("20")
    short = await doing("get_logs", *where, container="app", limit_bytes=4)
    assert (short.data["log"], short.data["truncated"]) == ("star", True)
    assert "cannot reach the database" in (await doing("get_logs", *where, previous=True)).data["log"]
    code, status, text = await refusal(doing, "get_logs", *where, container="none")
    assert (code, status, "none" in text) == (ErrorCode.INVALID, 400, True)
    assert (await refusal(doing, "get_logs", "pods", cluster.namespace, "none"))[0] == ErrorCode.NOT_FOUND
    assert (await refusal(doing, "get_logs", *where, since_time="yesterday"))[0] == ErrorCode.INVALID
