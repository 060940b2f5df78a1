"""The version of this code, read once: the installed metadata may be exchanged while a process runs."""

from importlib.metadata import version
from typing import Final

VERSION: Final = version("atlhyper")
