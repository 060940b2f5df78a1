"""Whether what a deployment sets is what a command reads."""

import importlib
import itertools
import os
from collections.abc import Mapping, Sequence
from unittest import mock

from services.cli import services
from services.runtime.settings import ENV_FILE, BusSettings, Settings, StoreSettings, load, variables

MODELS: dict[str, tuple[type[Settings], ...]] = {
    "bus apply": (BusSettings,),
    "bus credentials": (Settings,),
    "tokens create": (StoreSettings,),
    "": (BusSettings, StoreSettings),  # any command of the person's own
}
_OF_PEOPLE = {"ATLHYPER_URL", "ATLHYPER_TOKEN_FILE"}
"""What the commands for people read besides."""


def models(command: Sequence[str]) -> tuple[type[Settings], ...]:
    """The settings that `atlhyper <command>` reads."""
    words = " ".join(itertools.takewhile(lambda word: not word.startswith("--"), command))
    named = {
        "master": services.MASTER,
        "api": services.API,
        "agent kubernetes": services.AGENT,
        "db upgrade": services.STORE,
    }
    if words not in named:
        return MODELS[words]
    module, _, name = named[words].partition(":")
    return (getattr(importlib.import_module(module), name),)


def check(environment: Mapping[str, str], *commands: Sequence[str]) -> None:
    """Every variable is one that one of the commands reads, and its value is one they take."""
    found = [model for command in commands for model in models(command)]
    read = {name for model in found for names in variables(model).values() for name in names}
    unknown = environment.keys() - read - {ENV_FILE} - (_OF_PEOPLE if [] in map(list, commands) else set())
    assert not unknown, f"nobody reads {', '.join(sorted(unknown))}"
    values = {name: value for name, value in environment.items() if name != ENV_FILE}
    with mock.patch.dict(os.environ, values):
        for model in found:
            load(model)
