"""`python -m tests [PATH]...`: every test, or those below the paths.

First, on all processors, those that do not mind company; then one by one those that are marked
`alone`, since they measure time or put load on everything. What fails in company is tried once
more, by itself: a machine that is shared can stand still for a second. It is named at the end, for
it should not happen; many such failures count.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

_SPREAD = ("-n", "auto", "--maxprocesses", "4", "--dist", "loadfile", "-m", "not alone")
_AGAIN = ("--last-failed", "--last-failed-no-failures", "none")
_ALONE = ("-m", "alone")
_NONE = pytest.ExitCode.NO_TESTS_COLLECTED
FEW = 5
"""Failures in company that may be the machine's."""


def main(paths: list[str]) -> int:
    """The first exit code that is not 0; that there is none to run counts only if it is so both times."""
    with tempfile.TemporaryDirectory() as folder:
        cache = ("-o", f"cache_dir={folder}")
        in_company = _pytest(*cache, *_SPREAD, *paths)
        failed = _failed(Path(folder))
        if in_company == pytest.ExitCode.TESTS_FAILED and 0 < len(failed) <= FEW:
            in_company = _pytest(*cache, *_AGAIN, *paths)
    codes = [in_company, _pytest(*_ALONE, *paths)]
    for name in failed:
        print(f"failed beside others, and was tried again by itself: {name}")
    return next((code for code in codes if code not in (0, _NONE)), min(codes))


def _pytest(*arguments: str) -> int:
    return subprocess.call([sys.executable, "-m", "pytest", *arguments])


def _failed(cache: Path) -> list[str]:
    """The tests that pytest has noted there."""
    noted = cache / "v" / "cache" / "lastfailed"
    return list(json.loads(noted.read_text())) if noted.exists() else []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
