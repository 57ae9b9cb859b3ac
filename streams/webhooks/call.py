"""The HTTP call to an endpoint that others named: it reaches the public internet and nothing else.

The address is checked for each connection that is opened, after the name was looked up: a name that changes its mind
between a check and a call changes nothing. No redirect is followed, no proxy variable read, no answer kept.
"""

import ipaddress
import socket
from collections.abc import Mapping
from typing import Any

import aiohttp

#: Of one call. Receivers should take a notice and work later.
TIMEOUT = aiohttp.ClientTimeout(total=15, connect=5)
#: Names IPv4 addresses inside IPv6 (RFC 6052): what it names must be public too.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class PrivateAddress(PermissionError):
    """The address is not one of the public internet."""


def require_public(host: str) -> None:
    """Raise PrivateAddress for loopback, private, link-local, multicast, reserved, and what hides one of these."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            require_public(str(inner))
            if address.ipv4_mapped:
                return
    if not address.is_global or address.is_multicast:
        raise PrivateAddress("the endpoint's address is not one of the public internet")


class Caller:
    """One session for all calls to endpoints. Make it inside the running loop."""

    def __init__(self, *, is_dev: bool = False, resolver: aiohttp.abc.AbstractResolver | None = None) -> None:
        """``is_dev`` lets addresses of this machine pass."""
        self._is_dev = is_dev
        connector = aiohttp.TCPConnector(limit=64, socket_factory=self._socket, resolver=resolver, force_close=True)
        self._session = aiohttp.ClientSession(connector=connector, timeout=TIMEOUT, trust_env=False)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int | None:
        """The HTTP status; None: there was no answer."""
        try:
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
                return answer.status
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return None

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    def _socket(self, info: tuple[Any, ...]) -> socket.socket:
        """Called with the address that is about to be connected to."""
        family, kind, protocol, _, place = info
        if not (self._is_dev and ipaddress.ip_address(place[0].partition("%")[0]).is_loopback):
            require_public(place[0])
        return socket.socket(family, kind, protocol)
