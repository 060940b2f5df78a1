"""A small disk of its own that can be full: a tmpfs, which only root may mount."""

import asyncio
import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Self

MIB = 1024 * 1024
MOUNTS = sys.platform == "linux" and os.geteuid() == 0
"""Whether there can be one; a container may still refuse it."""


class Disk:
    """`async with Disk(folder, size) as disk:` the folder is a file system of `size` bytes."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self._size = size
        self._ballast = folder / "ballast"

    async def __aenter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        await self._run(
            "mount", "-t", "tmpfs", "-o", f"size={self._size},mode=700", "tmpfs", str(self.folder)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._run("umount", "--lazy", str(self.folder))

    async def _run(self, *command: str) -> None:
        await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True, timeout=60)

    def fill(self) -> None:
        """Leave not one byte."""
        with self._ballast.open("ab", buffering=0) as ballast:
            for piece in (MIB, 4096):
                try:
                    while ballast.write(bytes(piece)):
                        pass
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise

    def make_room(self) -> None:
        """As before."""
        self._ballast.unlink(missing_ok=True)
