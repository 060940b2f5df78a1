"""Redaction as properties: canaries never survive, ordinary text does, twice is once."""

import string
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.kubernetes.redaction import (
    REDACTED,
    is_secret_name,
    redact_annotations,
    redact_arguments,
    redact_object,
    redact_text,
)

SECRET = """
password dbPassword DB_PASSWORD db.password PASSWORD_OLD mypassword userpass passphrase clientSecret
CLIENT_SECRET secret secrets api-token apiToken serviceAccountToken bearer_token APIKey api_key X-Api-Key
aws_secret_access_key accessKey privateKey tls.key credentials creds OAuth2Token auth _auth authorization
Authorization Cookie jwt SECRET_KEY_BASE PGPASSWORD pwd tokens PASSWORDS
""".split()  # noqa: SIM905 (a paragraph of words)
HARMLESS = """
secretName secretRef secretKeyRef tokenReview author authority authors password_file tokenFile passwordPolicy
tokenExpirationSeconds auth-url authorization-mode tls-private-key-file passthrough bypass tokenizer compass
checksum/secret key keyboard monkey publicKey secretStoreRef credentialsProvider basic replicas node-role
tls-cert-file secret-namespace passwordEnabled
""".split()  # noqa: SIM905 (a paragraph of words)
ORDINARY = [
    "Back-off restarting failed container main in pod web-1_shop(0b1c2d3e-0000-4000-8000-000000000000)",
    'MountVolume.SetUp failed for volume "x" : secret "db" not found',
    "failed to sync secret cache: timed out waiting for the condition",
    "couldn't find key password in Secret shop/db",
    "failed to fetch oauth token: unexpected status from GET request to https://auth.example.com/token?a=b",
    "https://example.com/chart@1.2.3",
    "http://proxy.example.com:3128/k8s.io/api@v0.36.3",
    "git@github.com:org/repo.git",
    "ssh://git@github.com/org/repo",
    "postgres://app@db/shop",
    "--password=$(DB_PASSWORD)",
    "--token=${TOKEN}",
    "--leader-elect=true",
    "--authorization-mode=Node,RBAC",
    "--tls-private-key-file=/etc/tls.key",
    "--enable-token=true",
    "basic authentication is required",
    "Bearer token is missing",
    "author: somebody",
    "secretName: db",
    '{"secretRef":{"name":"db"}}',
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    '[{"name":"default","interface":"eth0","ips":["10.244.1.2"],"mac":"aa:bb:cc:dd:ee:ff"}]',
    "2026-11-21T07:00:00Z",
    "Liveness probe failed: HTTP probe failed with statuscode: 500",
    "Created pod: web-5-x",
]

# A canary looks like a password: no quotes, no white space, and no ordinary word.
canaries = st.text(string.ascii_letters + string.digits + "!#%^*_+~.", min_size=6, max_size=30).map(
    "c4N".__add__
)
names = st.sampled_from(SECRET)
plain = st.text(string.ascii_lowercase + " \n.,-", max_size=20)


@pytest.mark.parametrize("name", SECRET)
def test_secret_names(name: str) -> None:
    """Names whose values are hidden."""
    assert is_secret_name(name)
    assert is_secret_name(f"--{name}")


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_names(name: str) -> None:
    """Names that speak about secrets, or only sound like them."""
    assert not is_secret_name(name)


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_is_untouched(text: str) -> None:
    """Messages, addresses and arguments without a secret stay as they are, alone and in a command line."""
    assert redact_text(text) == text
    assert redact_arguments(["run", text]) == ["run", text]


@settings(max_examples=300, deadline=None)
@given(
    before=plain,
    name=names,
    canary=canaries,
    form=st.sampled_from(
        [
            "{name}={canary}",
            "{name}: {canary}",
            "{name}:{canary}",
            '"{name}":"{canary}"',
            '"{name}" : "{canary}", "host": "x"',
            "'{name}': '{canary}'",
            '{{\\"{name}\\":\\"{canary}\\"}}',
            '"{name}":"a\\"{canary}"',
            '{{\\"{name}\\":\\"a\\\\\\"{canary}\\"}}',
            '{name}="with spaces {canary}"',
            "{name}: |\n  {canary}\n  {canary}\nother: x",
            "{name}: [{canary}, {canary}]",
            "--{name}={canary}",
            "--{name} {canary}",
            "x --{name} '{canary}' y",
            "{name} => {canary}",
            "https://{canary}:{canary}@example.com/",
            "redis://:{canary}@example.com/0",
            "amqp://u:{canary}@a,amqp://u:{canary}@b",
            "https://u:{canary}/{canary}@example.com/",
            "http://proxy:80/https://u:{canary}@example.com/",
            "curl -u admin:{canary} http://x",
            "curl --user admin:{canary} http://x",
            "Authorization: Basic {canary}",
            '-H "Authorization: token {canary}"',
            "Cookie: a=b; session={canary}",
            "-----BEGIN RSA PRIVATE KEY-----\n{canary}\n-----END RSA PRIVATE KEY-----",
        ]
    ),
)
def test_canaries_never_survive(before: str, name: str, canary: str, form: str) -> None:
    """A secret in any of the usual forms is gone, and redacting again changes nothing."""
    text = f"{before} {form.format(name=name, canary=canary)}"
    redacted = redact_text(text)
    assert canary not in redacted
    assert REDACTED in redacted
    assert redact_text(redacted) == redacted


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_taken(text: str) -> None:
    """No text makes it fail, and twice is once."""
    redacted = redact_text(text)
    assert redact_text(redacted) == redacted


@settings(max_examples=200, deadline=None)
@given(name=names, canary=canaries, others=st.lists(st.sampled_from(ORDINARY), max_size=3))
def test_arguments(name: str, canary: str, others: list[str]) -> None:
    """Values of secret flags are gone wherever they stand; the other arguments are untouched."""
    secret = [
        f"--{name}",
        canary,
        f"--{name}={canary}",
        f"{name}={canary}",
        "-u",
        f"me:{canary}",
        f"--{name}",
        f"-{canary}",
        "--verbose",
    ]
    redacted = redact_arguments([*others, *secret, *others])
    assert canary not in " ".join(redacted)
    assert len(redacted) == len(secret) + 2 * len(others)
    assert redacted[: len(others)] == others
    assert redacted[len(redacted) - len(others) :] == others
    assert redact_arguments(redacted) == redacted


@given(name=names, canary=canaries)
def test_annotations_and_objects(name: str, canary: str) -> None:
    """A secret name hides the value below it, in annotations and at any depth of an object."""
    assert redact_annotations({f"example.com/{name}": canary}) == {f"example.com/{name}": REDACTED}
    redacted = redact_object({"spec": [{name: canary, "env": [{"name": "x", "value": canary}]}]})
    assert redacted == {"spec": [{name: REDACTED, "env": [{"name": "x", "value": REDACTED}]}]}
    assert redact_object(redacted) == redacted


def test_copies_of_the_object_are_dropped_from_annotations() -> None:
    """What `kubectl apply` leaves goes; the checksum by which charts notice changes stays."""
    kept = {"checksum/secret": "9f86d081", "example.com/team": "shop"}
    assert redact_annotations({"kubectl.kubernetes.io/last-applied-configuration": "{}"} | kept) == kept


@pytest.mark.parametrize(
    "text",
    [
        "a" * 200_000 + "@",
        "://a:" * 40_000 + "@",
        "password" * 25_000,
        "token " * 30_000,
        "key: " * 40_000,
        "eyJ" * 60_000,
        '\\"secret' * 20_000,
        "password: |\n" * 20_000,
        "bearer " * 30_000,
        "-u " * 60_000,
        " \t" * 100_000 + "secret=",
        '"secret":"' + '\\"' * 90_000,
        "-----BEGIN PRIVATE KEY-----" * 8_000,
    ],
    ids=lambda text: text[:12],
)
def test_no_text_is_slow(text: str) -> None:
    """The largest annotation that the API server takes costs well under a second, whatever is in it."""
    started = time.process_time()
    redact_text(text)
    assert time.process_time() - started < 2


@pytest.mark.parametrize("name", ["env", "extraEnv", "envVars", "environment"])
def test_environments_of_every_shape(name: str) -> None:
    """A literal of an environment goes whatever it is called and however it is written; references stay."""
    shapes = [
        {"PLAIN": "canary"},
        ["PLAIN=canary"],
        [{"name": "PLAIN", "value": "canary"}],
        [{"name": "PLAIN", "valueFrom": {"secretKeyRef": {"name": "db", "key": "k"}}}],
    ]
    shown = [redact_object({"spec": {name: shape}}) for shape in shapes]
    assert "canary" not in str(shown)
    assert "PLAIN" in str(shown[1])
    assert shown[3] == {"spec": {name: shapes[3]}}


@pytest.mark.parametrize("name", ["pw", "bearer", "httpBearer"])
def test_short_names_of_secrets(name: str) -> None:
    """Abbreviations count as well."""
    assert redact_object({name: "canary"}) == {name: REDACTED}
