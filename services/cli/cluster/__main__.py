"""`python -m services.cli.cluster`: a real Kubernetes control plane on this machine, without Docker."""

import argparse
import os
import shlex
import signal
import sys
from pathlib import Path

from services.cli.cluster.build import TOOLS, ensure_binaries
from services.cli.cluster.control_plane import ControlPlane, ControlPlaneError
from services.cli.cluster.toolchain import BuildError

_DESCRIPTION = """\
A real Kubernetes control plane on this machine, without Docker: etcd, kube-apiserver,
kube-controller-manager and kube-scheduler, with kubelets simulated by kwok. Nodes are Ready,
pods run, fail and have logs; no container is started. It listens on 127.0.0.1 only.

The programs are looked for in the folder KUBEBUILDER_ASSETS, then in the cache folder
(~/.cache/atlhyper), and are otherwise built there from source, once (about 5 minutes).
Data, credentials, logs and pids are in $ATLHYPER_HOME/cluster (~/.local/share/atlhyper/cluster).
"""
_EXAMPLES = """\
examples:
  python -m services.cli.cluster up --demo     start it, with something of every kind inside
  export KUBECONFIG=$(python -m services.cli.cluster up)
  python -m services.cli.cluster status        exit code 1 unless everything is healthy
  python -m services.cli.cluster down          stop it; the data stays for the next `up`
"""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m services.cli.cluster",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="start it, leave it running, print the path of its kubeconfig")
    up.add_argument("--nodes", type=int, default=3, metavar="N", help="have at least N nodes (default: 3)")
    up.add_argument("--demo", action="store_true", help="create a demo workload in the namespace demo")
    up.add_argument("--quiet", action="store_true", help="progress only, no example of what to do next")
    commands.add_parser("status", help="show each component; exit code 1 unless all are healthy")
    commands.add_parser("down", help="stop it; data and credentials stay")
    build = commands.add_parser("build", help="build the programs now and print where they are")
    build.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(TOOLS)} (default: all)")
    options = parser.parse_args(arguments)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, so that a running build is ended
    home = Path(os.environ.get("ATLHYPER_HOME") or "~/.local/share/atlhyper")
    control_plane = ControlPlane(home / "cluster")
    try:
        match options.command:
            case "up":
                return _up(control_plane, options.nodes, demo=options.demo, quiet=options.quiet)
            case "status":
                return _status(control_plane)
            case "down":
                control_plane.stop()
                _say("stopped; the data stays in " + str(control_plane.folder))
                return 0
            case _:
                if unknown := [name for name in options.names if name not in TOOLS]:
                    build.error(f"cannot build {', '.join(unknown)}; there are {', '.join(TOOLS)}")
                for path in ensure_binaries(options.names or TOOLS).values():
                    print(path)
                return 0
    except (BuildError, ControlPlaneError, OSError) as error:
        _say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        _say("interrupted")
        return 130


def _up(control_plane: ControlPlane, nodes: int, *, demo: bool, quiet: bool) -> int:
    control_plane.start()
    control_plane.add_nodes(nodes)
    if demo:
        control_plane.run_demo_workload()
    if not quiet:
        _say("the local control plane is up; next, for example:")
        _say(
            f"  {shlex.quote(str(control_plane.kubectl_program))} "
            f"--kubeconfig {shlex.quote(str(control_plane.kubeconfig))} get pods -A"
        )
    print(control_plane.kubeconfig)
    return 0


def _status(control_plane: ControlPlane) -> int:
    components = control_plane.status()
    row = "{:<24} {:>8} {:>6} {:>8}  {:<9} {}"
    print(row.format("COMPONENT", "PID", "PORT", "MEMORY", "VERSION", "HEALTH"))
    for found in components:
        memory = f"{found.memory / 2**20:.0f} MiB" if found.pid else "-"
        health = found.problem or "healthy"
        print(
            row.format(found.name, found.pid or "-", found.port or "-", memory, found.version or "-", health)
        )
    if any(found.problem for found in components):
        _say("start it with: python -m services.cli.cluster up")
        return 1
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
