"""`python -m services.cli.cluster.guard FOLDER`: when standard input closes, stop what runs in FOLDER.

A process that owns a control plane holds the other end of the pipe. The kernel closes it with that
process, whichever way it ends, so that nothing is left behind.
"""

import sys
from pathlib import Path

from services.cli.cluster.control_plane import ControlPlane

if __name__ == "__main__":
    sys.stdin.read()
    ControlPlane(Path(sys.argv[1])).stop()
