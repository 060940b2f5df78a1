"""`python -m tests [PATH]...`: every test, or those below the paths.

First, on all processors, those that do not mind company; then one by one those that are marked `alone`, since
they measure time or put load on everything.
"""

import subprocess
import sys

import pytest

_SPREAD = ("-n", "auto", "--maxprocesses", "4", "--dist", "loadfile", "-m", "not alone")
_ALONE = ("-m", "alone")
_NONE = pytest.ExitCode.NO_TESTS_COLLECTED


def main(paths: list[str]) -> int:
    """The first exit code that is not 0; that there is none to run counts only if it is so both times."""
    codes = [subprocess.call([sys.executable, "-m", "pytest", *how, *paths]) for how in (_SPREAD, _ALONE)]
    return next((code for code in codes if code not in (0, _NONE)), min(codes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
