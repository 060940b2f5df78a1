"""What answers have in common that are sent as they are made."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from litestar.types import HTTPScope, Receive, Scope

from services.runtime.tasks import cancelled

HEAD = "atlhyper.head"
"""Extension of the ASGI scope: the request was HEAD."""


def asked_for_head(scope: HTTPScope) -> HTTPScope:
    """The scope of a GET that is to be answered without content."""
    return {**scope, "method": "GET", "extensions": {**(scope.get("extensions") or {}), HEAD: {}}}


def is_head(scope: Scope) -> bool:
    """Whether the content would be thrown away."""
    return HEAD in (scope.get("extensions") or {})


async def while_there(receive: Receive, sending: Coroutine[Any, Any, object]) -> None:
    """Send, or wait, and stop when the reader is gone: the server would swallow the rest without a word."""
    work = asyncio.create_task(sending, name="stream")
    listening = asyncio.create_task(_disconnected(receive), name="stream: is the reader there?")
    try:
        await asyncio.wait([work, listening], return_when=asyncio.FIRST_COMPLETED)
    finally:
        await cancelled(listening)
        await cancelled(work)
    if not work.cancelled():
        work.result()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
