"""Addresses that our servers listen on: loopback unless callers are asked who they are, and taken ports."""

import errno
import ipaddress
import socket
from collections.abc import Collection
from dataclasses import dataclass

from services.runtime import logs
from services.runtime.errors import UserError

_log = logs.get_logger(__name__)

_NEXT_PORTS = 100
"""How many ports above a taken default are tried."""


@dataclass(frozen=True, slots=True)
class Listen:
    """Where to listen: `host:port`; an IPv6 host is written in brackets. Port 0: any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str, name: str = "address") -> "Listen":
        """Read `host:port`. Raises UserError naming `name`, the variable it came from."""
        host, colon, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not (colon and host and port.isascii() and port.isdigit() and int(port) < 65536):
            raise UserError(
                f"{name}: {text!r} is not an address to listen on", "write host:port, as in 127.0.0.1:8080"
            )
        return cls(host, int(port))

    @property
    def is_loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def is_free(self) -> bool:
        """Whether the port can be bound now."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.host, self.port))
                probe.listen(1)
            except OSError as error:  # what else is wrong is told when it is bound
                return error.errno != errno.EADDRINUSE
        return True


def any_port(host: str) -> int:
    """A port that is free now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def require_loopback(listen: Listen, name: str) -> None:
    """Raises UserError for an address that other machines can reach: nobody asks them who they are there."""
    if not listen.is_loopback:
        raise UserError(
            f"{name}: {listen} can be reached from other machines, and no credentials are asked there",
            f"listen on 127.0.0.1:{listen.port} and let a proxy or a tunnel that authenticates reach it",
        )


def free_listen(
    listen: str,
    was_set: bool,
    *,
    name: str = "address",
    avoid: Collection[str] = (),
    anywhere: bool = False,
) -> str:
    """The address to listen on: `listen`, or the next free port above it that is not in `avoid`.

    A default (`was_set` false) moves and says so; one that was set is an error when it is taken.
    `name` is the variable, for the messages. Raises UserError, also for an address that is not loopback
    unless it may be `anywhere`: where callers have to say who they are.
    """
    wanted = Listen.parse(listen, name)
    if not anywhere:
        require_loopback(wanted, name)
    if wanted.port == 0 or (wanted.is_free() and str(wanted) not in avoid):
        return str(wanted)
    if was_set:
        raise UserError(
            f"{name}: {wanted} is in use by another process",
            f"stop that process (`lsof -i :{wanted.port}` names it) or set {name} to a free port",
        )
    for port in range(wanted.port + 1, min(wanted.port + _NEXT_PORTS, 65536)):
        moved = Listen(wanted.host, port)
        if moved.is_free() and str(moved) not in avoid:
            _log.warning(
                "default port is in use, moved to the next free one", wanted=str(wanted), now=str(moved)
            )
            return str(moved)
    raise UserError(f"{name}: {wanted} and the {_NEXT_PORTS - 1} ports above it are in use", f"set {name}")
