"""Mistakes on the command line, in the config file, and in what a cluster is asked to do."""

from tests.cli.mistakes.world import NOBODY, Row

ROWS = [
    # the command line
    Row("unknown command", "zzz", "No such command 'zzz'", "atlhyper -h", code=2),
    Row("mistyped command", "gte", "No such command 'gte'", "Did you mean 'get'?", code=2),
    Row("unknown option", "get pods --al", "No such option", "-h", code=2),
    Row(
        "no API",
        "get pods",
        f"no API answers at http://{NOBODY}",
        "ATLHYPER_URL",
        env={"ATLHYPER_URL": f"http://{NOBODY}"},
    ),
    Row(
        "an address without scheme",
        "get pods",
        "no API answers at localhost:8080",
        "ATLHYPER_URL",
        env={"ATLHYPER_URL": "localhost:8080"},
    ),
    Row(
        "config file is not YAML",
        "get pods",
        "config.yaml is not YAML",
        "write `url:",
        prepare=lambda world: world.file("person/.config/atlhyper/config.yaml", "url: [\n"),
    ),
    Row(
        "config file with another name",
        "agents",
        "unknown name 'server'",
        "`url`, `token`, `current` and `contexts`",
        prepare=lambda world: world.file("person/.config/atlhyper/config.yaml", {"server": "http://x"}),
    ),
    Row(
        "config file with a token for everybody",
        "agents",
        "can be read by others",
        "chmod 600",
        code=4,
        prepare=lambda world: world.file("person/.config/atlhyper/config.yaml", {"token": "hunter2"}, 0o644),
    ),
    # commands that change something
    Row(
        "nobody to be asked",
        "delete pod/web-0 --cluster eu",
        "no API answers",
        "ATLHYPER_URL",
        env={"ATLHYPER_URL": f"http://{NOBODY}"},
    ),
    Row("replicas that are no number", "scale deploy/web --replicas many", "'many'", "-h", code=2),
    Row("nothing to restart", "restart", "Missing argument 'KIND/NAME...'", "-h", code=2),
    Row(
        "duration without unit, typed",
        "restart deploy/web --timeout 15",
        "'15' is not a duration",
        "90s",
        code=2,
    ),
    Row("part that is none", "restart deploy/web --max-unavailable 0%", "0% is less than 1", "-h", code=2),
    Row(
        "labels of clusters that are none",
        "restart deploy/web --cluster-selector =prod -y",
        "--cluster-selector",
        "env=prod",
        code=2,
    ),
    Row(
        "an operation on what labels select",
        "restart deploy -l app=web --max-failures 1 --cluster eu,us -y",
        "one object that is named",
        "KIND/NAME",
        code=2,
    ),
    Row("operation that is not named", "operations pause", "Missing argument 'ID'", "-h", code=2),
    Row(
        "set-image without an image", "set-image deploy/web", "an image for a container", "app=nginx", code=2
    ),
    Row(
        "no time to end, without force", "delete pod/web-0 --grace-period 0", "at once", "add --force", code=2
    ),
    Row(
        "file that is not there", "apply -f /nowhere.yaml", "cannot read /nowhere.yaml", "name a file", code=2
    ),
    Row(
        "manifest that is not YAML",
        "apply -f web.yaml",
        "web.yaml is not YAML",
        "correct it",
        code=2,
        prepare=lambda world: world.file("web.yaml", "a: [\n"),
    ),
    Row(
        "manifest without a name",
        "apply -f web.yaml",
        "web.yaml has no metadata.name",
        "apply goes by the name",
        code=2,
        prepare=lambda world: world.file("web.yaml", {"apiVersion": "v1", "kind": "ConfigMap"}),
    ),
    Row("folder without manifests", "apply -f person", "no object in person", "hold manifests", code=2),
]
