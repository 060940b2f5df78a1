"""The HTTP server inside the service's own event loop, ended by the service and not by signals of its own."""

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from litestar.types import ASGIApp

from services.api.http.limits import DEFAULTS, Limits
from services.api.http.protocol import Protocol
from services.runtime.errors import UserError
from services.runtime.listen import Listen

GRACE = 2.0
"""Seconds that requests under way have to end after a stop was asked for."""
_BACKLOG = 512
_UNHEARD = 60.0
"""Seconds after which a connection whose peer takes nothing of what is sent is dead: the reader of a stream
that vanished would keep its place for a quarter of an hour."""


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
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; inherited by the connections
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(_UNHEARD * 1000))
            # Where nothing is sent for long, as of a log in which nothing happens, the peer is asked.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, int(_UNHEARD))
        listener.bind((listen.host, listen.port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise UserError(f"{name}: cannot listen on {listen}: {error.strerror}", f"set {name}") from error
    return listener


async def serve(
    app: ASGIApp,
    listener: socket.socket,
    ending: Callable[[], None] | None = None,
    limits: Limits = DEFAULTS,
) -> None:
    """Answer requests until cancelled; then those under way have `GRACE` seconds.

    `ending` is called first then: streams end by it, since uvicorn would wait for them.
    `listener` stays open, so that a server that failed can be started again on it.
    """
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        h11_max_incomplete_event_size=limits.headers,
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
        if ending is not None:
            ending()
        server.should_exit = True
        await serving
        raise
