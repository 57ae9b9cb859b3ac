"""Ports on loopback: is one free, find one that is."""

import random
import socket
import sys

from mailstream.domain.errors import PortTaken

#: Below the range from which systems take ports for outgoing connections: those could take ours before we listen.
LOWEST, HIGHEST = 20_000, 32_000
_given: dict[int, int | None] = {}  #: each port to what marks it, an open file


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
    """A port that is free, and that no process of ours that still runs has given out before."""
    while True:
        port = random.randint(LOWEST, HIGHEST)  # noqa: S311  nothing secret about it
        if port in _given or not is_free(port):
            continue
        try:
            _given[port] = _mark(port)
        except OSError:  # another process has given it out
            continue
        return port


def _mark(port: int) -> int | None:
    """Tell other processes that the port is taken before anybody listens there, until this process ends.

    The mark is an abstract name, of which Linux alone knows; it leaves no file.
    """
    if sys.platform != "linux":
        return None
    mark = socket.socket(socket.AF_UNIX)
    try:
        mark.bind(f"\0mailstream-port-{port}")
    except OSError:
        mark.close()
        raise
    return mark.detach()


def require_free(port: int, what: str, setting: str, host: str = "127.0.0.1") -> None:
    """Raise PortTaken, in one line that names the setting that moves it."""
    if not is_free(port, host):
        raise PortTaken(f"Port {port} for {what} is taken. Nothing was changed. Set {setting} to another one.")
