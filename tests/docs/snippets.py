"""What the fenced blocks of a page are: commands, files, and what is not run, with the reason.

A comment straight above a block says how it is meant; readers of the built page do not see it:

    <!-- test: keeps running -->       a terminal of its own; what it prints later counts too
    <!-- test: fails -->               the command ends with another exit code than 0
    <!-- test: file NAME -->           the block is this file, in the folder of the page
    <!-- test: shown by COMMAND -->    what a command that keeps running prints now
    <!-- test: Ctrl-C COMMAND -->      the end of such a command; without a block
    <!-- test: not run: REASON -->     why nobody runs it here
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md"))
    if not {"decisions", "zh", "_build"} & set(path.relative_to(ROOT).parts)
)

_FENCE = re.compile(r"```(\S*)")
_DIRECTIVE = re.compile(r"<!-- test: (.+?) -->")


@dataclass(frozen=True, slots=True)
class Command:
    """One command, or a script; `shown` is what it prints, as the page has it."""

    text: str
    line: int
    shown: tuple[str, ...] = ()
    keeps_running: bool = False
    fails: bool = False


@dataclass(frozen=True, slots=True)
class File:
    """A file that the reader writes."""

    name: str
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Shown:
    """What a command that keeps running prints by now."""

    command: str
    shown: tuple[str, ...]
    line: int


@dataclass(frozen=True, slots=True)
class Interrupt:
    """Ctrl-C in the terminal of a command."""

    command: str
    line: int


@dataclass(frozen=True, slots=True)
class NotRun:
    """A block that nobody runs here."""

    reason: str
    line: int


Step = Command | File | Shown | Interrupt | NotRun


def blocks(text: str) -> list[tuple[int, str, str, str]]:
    """Line, language, directive and text of each block; a directive without a block has the language `-`."""
    found: list[tuple[int, str, str, str]] = []
    directive, language, body, start = "", None, [], 0
    for number, line in enumerate(text.splitlines(), 1):
        if language is not None:
            if line.strip() == "```":
                found.append((start, language, directive, "\n".join(body)))
                directive, language = "", None
            else:
                body.append(line)
        elif fence := _FENCE.match(line):
            language, body, start = fence[1], [], number
        elif comment := _DIRECTIVE.fullmatch(line.strip()):
            if comment[1].startswith("Ctrl-C "):
                found.append((number, "-", comment[1], ""))
            else:
                directive = comment[1]
        elif line.strip():
            assert not directive, f"line {number}: {directive!r} stands above no block"
    return found


def steps(page: Path) -> list[Step]:
    """What a test does with a page, in its order."""
    return [step for block in blocks(page.read_text(encoding="utf-8")) for step in _steps(*block)]


def _steps(line: int, language: str, directive: str, text: str) -> list[Step]:
    word, _, rest = directive.partition(" ")
    if directive.startswith("Ctrl-C "):
        return [Interrupt(rest, line)]
    if directive.startswith("not run: "):
        return [NotRun(directive.removeprefix("not run: "), line)]
    if directive.startswith("shown by "):
        return [Shown(directive.removeprefix("shown by "), tuple(text.splitlines()), line)]
    if word == "file":
        return [File(rest, text + "\n", line)]
    assert directive in ("", "keeps running", "fails"), f"line {line}: {directive!r} is not known"
    keeps, fails = directive == "keeps running", directive == "fails"
    if language == "sh":
        return [Command(text, line, keeps_running=keeps, fails=fails)]
    if language != "console":
        assert not directive, f"line {line}: {directive!r} stands above a block of {language or 'nothing'}"
        return []
    commands: list[tuple[list[str], list[str]]] = []
    for entry in text.splitlines():
        if entry.startswith("$ "):
            commands.append(([entry[2:]], []))
        elif commands and commands[-1][0][-1].endswith("\\") and not commands[-1][1]:
            commands[-1][0].append(entry)
        else:
            assert commands, f"line {line}: a console block begins with a command"
            commands[-1][1].append(entry)
    return [
        Command("\n".join(command), line, tuple(shown), keeps_running=keeps, fails=fails)
        for command, shown in commands
    ]


_LOOSE = (
    r"\d{4}-\d\d-\d\dT[\d:.]+(?:Z|\+00:00)",
    r"\d\d:\d\d:\d\d(?:\.\d+)?",
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    r"U[A-Z2-7]{55}",
    r"(?<=-)[0-9a-f]{6,10}-[a-z0-9]{5}\b",
    r"(?:\d+(?:\.\d+)?(?:µs|ms|[smhd]))+\b",
    r"\b[0-9a-f]{8,}\b",
    r"\d+(?:,\d{3})*",
)
"""What differs from run to run: times, ids, keys, names of pods, ages, hashes, numbers."""
_PIECES = re.compile("|".join([r"…", r"\s+", *(f"({each})" for each in _LOOSE)]))


def pattern(line: str) -> re.Pattern[str]:
    """A shown line as what its real counterparts look like; `…` stands for anything."""
    parts, place = [], 0
    for found in _PIECES.finditer(line):
        parts.append(re.escape(line[place : found.start()]))
        place = found.end()
        if found[0] == "…":
            parts.append(".*")
        elif found[0].isspace():
            parts.append(r"\s+")
        else:
            assert found.lastindex
            parts.append(f"(?:{_LOOSE[found.lastindex - 1]})")
    return re.compile("".join([*parts, re.escape(line[place:])]))


def missing(shown: tuple[str, ...], output: str) -> str:
    """The first shown line that the output does not have in its place; empty when it has all."""
    lines = iter(output.splitlines())
    for line in shown:
        if line.strip() in ("", "…"):
            continue
        expected = pattern(line.strip())
        if not any(expected.fullmatch(each.strip()) for each in lines):
            return line
    return ""
