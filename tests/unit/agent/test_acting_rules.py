"""The rules of acting that need no API server: the allow list, which pods a drain takes, selectors."""

from typing import Any

import pytest
from pydantic import ValidationError

from schemas.kubernetes.actions import ACTIONS, DrainParams, DynamicParams
from services.agent.kubernetes.service.actions import evictable
from services.agent.kubernetes.service.actions.allowing import AllowList
from services.agent.kubernetes.service.actions.evictable import select
from services.agent.kubernetes.service.actions.revisions import same_template, selector_text
from services.agent.settings import AgentSettings


def asked(verb: str, resource: str = "configmaps", **more: Any) -> DynamicParams:
    return DynamicParams(verb=verb, resource=resource, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rules", "request_", "allowed"),
    [
        (["read:*"], asked("get"), True),
        (["read:*"], asked("list", "widgets", group="example.com"), True),
        (["read:*"], asked("get", "deployments", group="apps", subresource="scale"), True),
        (["read:*"], asked("create"), False),
        (["write:configmaps"], asked("delete"), True),
        (["write:configmaps"], asked("get"), False),
        (["patch:configmaps@web"], asked("patch", namespace="web"), True),
        (["patch:configmaps@web"], asked("patch", namespace="other"), False),
        (["patch:configmaps@web"], asked("patch"), False),
        (["read:configmaps@web"], asked("list"), False),
        (["read:deployments"], asked("get", "deployments", group="apps"), True),
        (["read:deployments"], asked("get", "deployments", group="example.com"), False),
        (["read:pods"], asked("list", "pods", group="metrics.k8s.io"), False),
        (["write:*.example.com"], asked("create", "widgets", group="example.com"), True),
        (["write:*.example.com"], asked("create"), False),
        (["write:deployments"], asked("patch", "deployments", group="apps", subresource="scale"), False),
        (["patch:deployments/scale"], asked("patch", "deployments", group="apps", subresource="scale"), True),
        (["patch:deployments/scale"], asked("patch", "deployments", group="apps"), False),
        ([], asked("get"), False),
    ],
)
def test_the_allow_list(rules: list[str], request_: DynamicParams, allowed: bool) -> None:
    """Only what a rule names."""
    assert (AllowList.parse(rules).refusal(request_) == "") is allowed


WIDGET = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a"}}


def listed(obj: dict[str, Any], *kinds: str) -> dict[str, Any]:
    """The object in a list of the first kind, which is in a list of the next one."""
    for kind in kinds:
        obj = {"apiVersion": "v1", "kind": kind, "items": [WIDGET, obj]}
    return obj


@pytest.mark.parametrize(
    ("action", "params", "words"),
    [
        ("dynamic", {"verb": "get", "resource": "secrets"}, "secrets are never asked for"),
        ("dynamic", {"verb": "list", "resource": "secrets", "group": "example.com"}, "secrets.example.com"),
        (
            "dynamic",
            {"verb": "create", "resource": "tokenreviews", "group": "authentication.k8s.io"},
            "tokenreviews",
        ),
        ("dynamic", {"verb": "create", "resource": "pods", "body": WIDGET | {"kind": "Secret"}}, "Secret "),
        ("dynamic", {"verb": "patch", "resource": "pods", "body": [{"op": "remove", "path": "/a"}]}, ""),
        ("dynamic", {"verb": "create", "resource": "widgets", "body": WIDGET}, ""),
        ("apply", {"manifest": WIDGET | {"kind": "Secret"}}, "Secret objects are not applied"),
        ("apply", {"manifest": {"kind": "List", "items": [WIDGET, {"kind": "Secret"}]}}, "Secret "),
        ("apply", {"manifest": {"kind": "SecretList", "items": [{}]}}, "SecretList "),
        *(
            ("apply", {"manifest": WIDGET | {"kind": kind}}, f"{kind.strip()} objects are not applied")
            for kind in ("secret", "Secret ", "\tSECRET", "secretlist", "secretList ")
        ),
        ("dynamic", {"verb": "update", "resource": "pods", "body": {"kind": "secret"}}, "secret objects"),
        ("apply", {"manifest": WIDGET | {"kind": "SecretStore"}}, ""),
        (
            "apply",
            {"manifest": WIDGET | {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview"}},
            "SubjectAccessReview ",
        ),
        *(
            ("apply", {"manifest": listed({"kind": kind, "items": [{}]}, *outer)}, f"{kind} objects are not")
            for kind in ("Secret", "SecretList")
            for outer in (("List", "List"), ("ConfigMapList", "List"), ("List", "List", "WidgetList"))
        ),
        ("apply", {"manifest": listed({"kind": "Secret"}, *["List"] * 8)}, "Secret objects are not"),
        ("apply", {"manifest": listed({"kind": "Secret"}, *["List"] * 9)}, "more than 8 lists"),
        ("apply", {"manifest": listed(WIDGET, *["List"] * 5000)}, "more than 8 lists"),
        ("apply", {"manifest": listed(WIDGET, *["List"] * 8)}, ""),
        (
            "apply",
            {"manifest": {"kind": "List", "items": [[WIDGET, [{"kind": "Secret"}]]]}},
            "Secret objects",
        ),
        (
            "dynamic",
            {"verb": "create", "resource": "pods", "body": listed({"kind": "Secret"}, "List", "List")},
            "Secret objects are not",
        ),
        ("apply", {"manifest": WIDGET | {"items": "Secret"}}, ""),
        ("apply", {"manifest": {"kind": ["Secret"], "apiVersion": 1}}, ""),
        ("scale", {"replicas": 1}, ""),
    ],
)
def test_what_is_never_done(action: str, params: dict[str, Any], words: str) -> None:
    """Whatever an agent's settings allow: no Secrets and no reviews, however they are wrapped."""
    refusal = ACTIONS[action].refusal(params)
    assert refusal.startswith(words) if words else refusal == ""


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        *(
            (value, "metadata is not an object")
            for value in ("x", "", 1, 0, True, False, [], [{"name": "a"}])
        ),
        *(
            ({"name": "a", member: value}, f"metadata.{member} is not an object")
            for member in ("annotations", "labels")
            for value in ("x", "", 1, True, [], ["x"])
        ),
        *(
            ({"name": "a"} | {member: value}, f"metadata.{member} is not a text")
            for member in ("name", "namespace", "generateName")
            for value in (1, True, [], {})
        ),
        *(({member: None, "name": "a"}, "") for member in ("annotations", "labels", "namespace")),
        ({"annotations": {}, "labels": {"a": None}, "finalizers": []}, ""),
        (None, ""),
    ],
)
def test_metadata_of_what_is_sent(metadata: Any, words: str) -> None:
    """What is no object's is refused with its place, before it is stored and by agents; null takes away."""
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
    for action, params in (
        ("apply", {"manifest": body}),
        *(
            ("dynamic", {"verb": verb, "resource": "configmaps", "body": body})
            for verb in ("create", "patch")
        ),
    ):
        if not words:
            ACTIONS[action].params.model_validate(params)
            continue
        with pytest.raises(ValidationError, match=words):
            ACTIONS[action].params.model_validate(params)


@pytest.mark.parametrize(
    "rule",
    [
        "",
        "*",
        "get",
        "get:",
        "watch:pods",
        "get:pods/exec",
        "get:pods/log",
        "get:Pods",
        "get:pods@a/b",
        "get pods",
    ],
)
def test_a_rule_that_is_none(rule: str) -> None:
    """It is an error at the start, not a rule that allows nothing, or everything."""
    with pytest.raises(ValidationError, match="is no rule"):
        AgentSettings(dynamic=[rule])


def test_rules_of_the_setting_are_read() -> None:
    """What the setting takes is what the list reads."""
    for rule in (
        "read:*",
        "write:*.apps",
        "get:pods",
        "patch:deployments/scale@web",
        "list:widgets.example.com",
    ):
        assert len(AllowList.parse(AgentSettings(dynamic=[rule]).dynamic).rules) == 1
    assert AgentSettings().dynamic == ["read:*"]


def pod(name: str, owner: str = "ReplicaSet", phase: str = "Running", **more: Any) -> dict[str, Any]:
    owners = [{"kind": owner, "name": "x", "uid": "u", "controller": True}] if owner else []
    metadata = {"namespace": "web", "name": name, "uid": name, "ownerReferences": owners}
    return {
        "metadata": metadata | more.get("metadata", {}),
        "spec": more.get("spec", {}),
        "status": {"phase": phase},
    }


LOCAL = {"spec": {"volumes": [{"name": "cache", "emptyDir": {}}]}}
STATIC = {"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}}


@pytest.mark.parametrize(
    ("found", "params", "reason"),
    [
        (pod("a"), {}, ""),
        (pod("a", "DaemonSet"), {}, evictable.DAEMON_SETS),
        (pod("a", "DaemonSet", "Succeeded"), {}, ""),
        (pod("a", **LOCAL), {}, evictable.LOCAL_DATA),
        (pod("a", **LOCAL), {"delete_empty_dir_data": True}, ""),
        (pod("a", phase="Failed", **LOCAL), {}, ""),
        (pod("a", ""), {}, evictable.UNMANAGED),
        (pod("a", ""), {"force": True}, ""),
        (pod("a", "", "Succeeded"), {}, ""),
    ],
)
def test_what_a_drain_takes(found: dict[str, Any], params: dict[str, bool], reason: str) -> None:
    """kubectl's rules, pod by pod."""
    selected = select([found], DrainParams(**params))
    assert (list(selected.refused), selected.ignored) == ([reason] if reason else [], {})
    assert bool(selected.pods) is not bool(reason)


@pytest.mark.parametrize(
    ("found", "params"),
    [(pod("a", "", **STATIC), {}), (pod("a", "DaemonSet", **LOCAL), {"ignore_daemon_sets": True})],
)
def test_what_a_drain_leaves(found: dict[str, Any], params: dict[str, bool]) -> None:
    """Static pods always, those of DaemonSets where it is asked for; both are named."""
    selected = select([found], DrainParams(**params))
    assert (selected.refused, selected.pods, list(selected.ignored)) == ({}, [], ["web/a"])


def test_a_selector_as_a_query() -> None:
    """Every operator of metav1.LabelSelector."""
    expressions = [
        {"key": "b", "operator": "In", "values": ["1", "2"]},
        {"key": "c", "operator": "NotIn", "values": ["3"]},
        {"key": "d", "operator": "Exists"},
        {"key": "e", "operator": "DoesNotExist"},
    ]
    text = selector_text({"matchLabels": {"a": "1"}, "matchExpressions": expressions})
    assert text == "a=1,b in (1,2),c notin (3),d,!e"


def test_templates_that_say_the_same() -> None:
    """What is null or empty says nothing."""
    one = {"metadata": {"labels": {"a": "1"}, "creationTimestamp": None}, "spec": {"securityContext": {}}}
    assert same_template(one, {"metadata": {"labels": {"a": "1"}}})
    assert not same_template(one, {"metadata": {"labels": {"a": "2"}}})
