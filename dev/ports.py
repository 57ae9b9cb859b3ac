"""Ports on loopback: is one free, find one that is."""

import random
import socket

from mailstream.errors import PortTaken

#: Below the range from which systems take ports for outgoing connections: those could take ours before we listen.
LOWEST, HIGHEST = 20_000, 32_000
_given: set[int] = set()


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether we could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: a closed one lingers for a minute
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port that is free, and that this process has not given out before."""
    while True:
        port = random.randint(LOWEST, HIGHEST)  # noqa: S311  nothing secret about it
        if port not in _given and is_free(port):
            _given.add(port)
            return port


def require_free(port: int, what: str, setting: str, host: str = "127.0.0.1") -> None:
    """Raise PortTaken, in one line that names the setting that moves it."""
    if not is_free(port, host):
        raise PortTaken(f"Port {port} for {what} is taken. Nothing was changed. Set {setting} to another one.")
