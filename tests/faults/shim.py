"""`shim.c`, compiled for this run: what makes a disk fail and a clock go wrong for one process."""

import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")
COMPILER = shutil.which("cc") if sys.platform == "linux" else None
"""None: there can be no shim."""
CLOCK = "FAULTS_CLOCK_SHIFT"
"""Seconds, negative for behind."""


def compiled(folder: Path) -> Path:
    """The library, made in that folder. Raises subprocess.CalledProcessError."""
    assert COMPILER is not None, "a shim needs a C compiler, on Linux"
    library = folder / "shim.so"
    options = ("-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC")
    command = (COMPILER, *options, "-o", library, SOURCE, "-ldl")
    subprocess.run(command, check=True, timeout=60)
    return library


def variables(library: Path, below: Path, while_there: Path) -> dict[str, str]:
    """For a process: while the one file is there, writing to files below the folder fails with EIO."""
    return {
        "LD_PRELOAD": str(library),
        "FAULTS_EIO_BELOW": str(below.resolve()),
        "FAULTS_EIO_WHILE": str(while_there),
    }
