"""The HTTP server inside the service's own event loop, ended by the service and not by signals of its own."""

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from litestar.types import ASGIApp

from services.runtime.errors import UserError
from services.runtime.listen import Listen

GRACE = 2.0
"""Seconds that requests under way have to end after a stop was asked for."""
_BACKLOG = 512


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None: `services.runtime.lifecycle` has them."""
        yield


def bind(address: str, name: str) -> socket.socket:
    """A socket that listens on `host:port`. Raises UserError naming `name`, the variable."""
    listen = Listen.parse(address, name)
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    # asyncio sets TCP_NODELAY only on sockets that name their protocol; without it a kept-alive connection
    # waits 40 ms for the peer's delayed acknowledgement between the head and the body of an answer.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((listen.host, listen.port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise UserError(f"{name}: cannot listen on {listen}: {error.strerror}", f"set {name}") from error
    return listener


async def serve(app: ASGIApp, listener: socket.socket) -> None:
    """Answer requests until cancelled; then those under way have `GRACE` seconds.

    `listener` stays open, so that a server that failed can be started again on it.
    """
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=int(GRACE),
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener.dup()]), name="uvicorn")
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = True
        await serving
        raise
