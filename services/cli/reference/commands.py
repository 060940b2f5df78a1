"""`docs/reference/cli.md`: every command, from the program itself."""

import importlib
import re
from collections.abc import Iterator
from inspect import cleandoc

import rich_click as click

from services.cli.main import COMMANDS, SECTIONS
from services.cli.reference.text import one_line, page, table

_INTRO = """\
What `--help` says, on one page. Data goes to standard output, progress and notes to standard error.
Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 denied, 5 partial, 75 try again later, 78 wrong
settings, 124 timeout. Variables of the services: [settings](settings.md).
"""


def commands_page() -> dict[str, str]:
    """The page, by its path in the repository."""
    parts = ["# The command line", _INTRO]
    for names in SECTIONS.values():
        for name in names:
            module, _, attribute = COMMANDS[name].where.partition(":")
            command: click.Command = getattr(importlib.import_module(module), attribute)
            parts += _command(command, click.Context(command, info_name=f"atlhyper {name}"))
    return {"docs/reference/cli.md": page(parts)}


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"## `{context.command_path}`"
    if isinstance(command, click.Group):
        if command.invoke_without_command:
            yield from _usage(command, context)
        else:
            yield _help(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None and not found.hidden:
                yield from _command(found, click.Context(found, info_name=name, parent=context))
        return
    yield from _usage(command, context)


def _usage(command: click.Command, context: click.Context) -> Iterator[str]:
    pieces = [piece for piece in command.collect_usage_pieces(context) if piece != "[OPTIONS]"]
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    usage = [context.command_path, *(["[OPTIONS]"] if options else []), *pieces]
    yield f"```text\n{' '.join(usage)}\n```"
    yield _help(command)
    if options:
        yield table(
            ("Option", "Default", "Meaning"),
            (_option(option, context) for option in options if not option.hidden),
        )


def _help(command: click.Command) -> str:
    """The docstring; a backspace character, click's sign for "as it stands", is left out."""
    return re.sub(r"^\x08\n", "", cleandoc(command.help or ""), flags=re.MULTILINE)


def _option(option: click.Option, context: click.Context) -> tuple[str, str, str]:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    if isinstance(option.type, click.Choice):
        names += " " + " | ".join(f"`{choice}`" for choice in option.type.choices)
    elif not option.is_flag:
        names += f" {option.make_metavar(context)}"
    meaning, default = option.help or "", ""
    if told := re.search(r"\s*\[default: (.+)\]$", meaning):
        meaning, default = meaning[: told.start()], told[1]
    elif not option.is_flag and option.show_default and option.default not in (None, ()):
        default = f"`{option.default}`"
    return names, default, one_line(meaning)
