"""The documents say only what there is: links, commands, tests that are named, and their size."""

import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from services.cli.main import COMMANDS
from tests.docs.snippets import blocks

ROOT = Path(__file__).parents[2]
ALONE = ("README.md", "README.zh-CN.md", "CONTRIBUTING.md")
PAGES = sorted(
    path
    for path in (
        *(ROOT / name for name in ALONE),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples").rglob("*.md"),
    )
    if not {"reference", "_build"} & set(path.relative_to(ROOT).parts)
)
TRANSLATED = {
    "README.md": "README.zh-CN.md",
    "docs/tutorials/first-fleet.md": "docs/zh/tutorials/first-fleet.md",
}
IDS = [str(path.relative_to(ROOT)) for path in PAGES]

every_page = pytest.mark.parametrize("page", PAGES, ids=IDS)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """What the headings of a page can be linked by, as GitHub makes it of them."""
    headings = re.findall(r"^#+ (.+)$", prose(text_of(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link names a file or folder of this repository, each anchor a heading."""
    for link in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(ROOT), link
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_every_promise_names_tests_that_exist() -> None:
    """Each sentence of docs/promises.md is followed by links to tests, and these are there."""
    page = ROOT / "docs" / "promises.md"
    promises = re.split(r"^- ", text_of(page), flags=re.MULTILINE)[1:]
    assert promises
    for promise in promises:
        named = re.findall(r"\[`(test_\w+)`\]\(([^)]+)\)", promise)
        assert named, f"no test holds: {promise}"
        for name, link in named:
            code = (page.parent / link).read_text(encoding="utf-8")
            assert re.search(rf"^\s*(async )?def {name}\(", code, re.MULTILINE), f"{link}::{name}"


def code_of(text: str) -> list[str]:
    """Lines of fenced blocks and inline code."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    return [line for block in blocks for line in block.splitlines()] + inline


@every_page
def test_commands_exist(page: Path) -> None:
    """Every `atlhyper …` names a command with these options, every `make …` a target."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    for code in code_of(text_of(page)):
        line = code.partition(" #")[0].removeprefix("$ ").rstrip("…. ")
        words = line.split()
        while words and re.fullmatch(r"[A-Z_]+=\S+", words[0]):
            words = words[1:]
        if words[:1] == ["make"] and len(words) > 1:
            assert words[1] in targets, line
        if words[:1] == ["atlhyper"] and len(words) > 1 and not line.startswith("another"):
            check_command(words[1:], line)


def check_command(words: list[str], line: str) -> None:
    if words[0] in ("--help", "--version"):
        return
    assert words[0] in COMMANDS, line
    module, _, attribute = COMMANDS[words[0]].where.partition(":")
    command: click.Command = getattr(importlib.import_module(module), attribute)
    words = words[1:]
    context = click.Context(command)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        assert found is not None, line
        command, words = found, words[1:]
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    for word in words:
        if word.startswith("-"):
            assert word.partition("=")[0] in options | {"-h", "--help"}, line


@every_page
def test_variables_exist(page: Path) -> None:
    """Every AGENT_…, MASTER_…, API_… and ATLHYPER_… variable that is named is in the reference."""
    known = text_of(ROOT / "docs" / "reference" / "settings.md")
    streams = text_of(ROOT / "docs" / "reference" / "subjects.md")
    for name in re.findall(r"\b(?:AGENT|MASTER|API|ATLHYPER|DATABASE)_[A-Z_]+\b", text_of(page)):
        assert name in known or name in streams, name


def test_the_readme_fits_a_screen_or_two() -> None:
    """Somebody who has five minutes reads it to the end."""
    assert len(text_of(ROOT / "README.md").splitlines()) <= 100


@pytest.mark.parametrize(("page", "translation"), TRANSLATED.items(), ids=TRANSLATED.values())
def test_translations_have_the_same_blocks(page: str, translation: str) -> None:
    """Each block, its language and what a test does with it the English page's, and so are the headings."""
    english, chinese = text_of(ROOT / page), text_of(ROOT / translation)
    assert [block[1:] for block in blocks(chinese)] == [block[1:] for block in blocks(english)]
    ranks = [re.findall(r"^#+(?= )", prose(text), re.MULTILINE) for text in (english, chinese)]
    assert ranks[0] == ranks[1]


def prose(text: str) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def build(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """As `make docs` builds, with its options."""
    [options] = re.findall(r"sphinx-build (.+) docs docs/_build", text_of(ROOT / "Makefile"))
    return subprocess.run(
        [sys.executable, "-m", "sphinx", *options.split(), str(source), str(target)],
        capture_output=True,
        text=True,
        timeout=170,
    )


def test_the_pages_build_without_a_warning(tmp_path: Path) -> None:
    """`make docs` succeeds, and what it builds fetches nothing from anywhere."""
    done = build(ROOT / "docs", tmp_path)
    assert done.returncode == 0, done.stderr
    foreign = re.compile(r"<(?:link|script|img)[^>]+(?:href|src)=\"(?:https?:)?//[^\"]+")
    assert not [found for page in tmp_path.rglob("*.html") for found in foreign.findall(text_of(page))]


def test_what_is_broken_fails_the_build(tmp_path: Path) -> None:
    """A broken link, a bad anchor and a page in no table of contents are told, and fail it."""
    shutil.copy(ROOT / "docs" / "conf.py", tmp_path)
    (tmp_path / "index.md").write_text("# Home\n\n[gone](gone.md) [no such heading](index.md#nowhere)\n")
    (tmp_path / "orphan.md").write_text("# Nobody leads here\n")
    done = build(tmp_path, tmp_path / "built")
    assert done.returncode != 0
    for told in ("gone.md", "nowhere", "orphan.md: WARNING: document isn't included"):
        assert told in done.stderr


A_MACHINE = re.compile(r"(?<![\w.~])/(?:work|root|tmp|home|Users|var|mnt)/")
"""The beginning of a path that only somebody's machine has."""
LOCAL_URL = re.compile(
    r"\w+://(?:127\.0\.0\.1|localhost|[\w.-]+\.example|host|master)\b|sqlite\+aiosqlite:///"
    r"|postgresql\+asyncpg://|postgresql://\w+@db\.example"
)


@every_page
def test_nothing_of_one_machine_or_host(page: Path) -> None:
    """No path of a machine and no foreign host: what is written here holds on every machine, for long."""
    text = text_of(page)
    assert A_MACHINE.search(text) is None
    for url in re.findall(r"[\w+]+://\S+", text):
        assert LOCAL_URL.match(url), url


@every_page
def test_plain_typography(page: Path) -> None:
    """Short sentences need no dashes between them."""
    assert "\N{EM DASH}" not in text_of(page)
