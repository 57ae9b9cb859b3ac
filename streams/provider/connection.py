"""Connections to the provider, kept and used again: HTTP/1.1, one request at a time on each, and what came of it.

Written for the one request that is made for every email; a general client (aiohttp) costs 60 µs more for each.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, cast

import aiohappyeyeballs
import httptools

from streams.core.provider_answer import CutOff, Garbled, TimedOut

Failure = CutOff | TimedOut | Garbled
LATE: Final = TimedOut("no answer in time")

#: At most so much of an answer's body is read; SendGrid's own errors have a few hundred bytes.
LONGEST_ANSWER_BYTES: Final = 65_536
#: Everything up to the end of an answer's headers, interim answers included; a real head has about a thousand bytes.
LONGEST_HEAD_BYTES: Final = 65_536
#: A connection that idled longer is not used again. Below what servers and balancers keep (60 s and more), so that
#: no request is written into a connection that the other side is just closing.
KEEP_ALIVE_SECONDS: Final = 15.0
#: Before the next address of the provider's name is tried beside the first (RFC 8305).
NEXT_ADDRESS_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Longest times of one call's parts, in seconds on the loop's monotonic clock; 18 together: what is called longer ago than that has ended."""

    connect: float = 3.0  #: name, TCP and TLS
    write: float = 3.0  #: until the socket has taken the request
    read: float = 12.0  #: until the answer is whole
    explanation: float = 2.0  #: of ``read``, once the status is known: its body changes nothing


@dataclass(slots=True)
class Reply:
    """An answer with a whole head. Its body may be cut: the code decides."""

    code: int
    headers: dict[bytes, bytes]  #: by lower-case name; of repeated ones the first
    body: bytearray = field(default_factory=bytearray)

    def header(self, name: bytes) -> str | None:
        """The value of a header."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1").strip()


class NotConnected(Exception):
    """There is no connection to the provider; the text says why. Nothing left."""


class Connection(asyncio.Protocol):
    """One request at a time: ``held_for`` the gate, ``begin``, ``reply``, ``end``."""

    def __init__(self, deadlines: Deadlines) -> None:
        self.is_lost = False
        self.idle_since = 0.0
        self._deadlines, self._loop = deadlines, asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._at_gate: asyncio.Task[object] | None = None
        self._done: asyncio.Future[Reply | Failure] | None = None  #: what came of the request under way
        self._timer: asyncio.TimerHandle | None = None
        self._is_writing = False
        self._reset()

    def _reset(self) -> None:
        self._headers: dict[bytes, bytes] = {}
        self._reply: Reply | None = None
        self._head_bytes = 0
        self._is_whole = self._is_kept_alive = False

    # -- one request --------------------------------------------------------------------------------------

    async def held_for(self, gate: Callable[[], Awaitable[bool]]) -> bool:
        """What the gate says. It is cancelled when the connection is lost while it waits, and then says no."""
        task = self._at_gate = asyncio.current_task()
        assert task is not None
        cancelled_before = task.cancelling()
        try:
            return await gate()
        except asyncio.CancelledError:
            if self.is_lost and task.uncancel() <= cancelled_before:
                return False
            raise
        finally:
            self._at_gate = None

    def begin(self, request: bytes) -> None:
        """Hand a whole request to the socket; from here on it may have left."""
        self._reset()
        self._done = self._loop.create_future()
        self._transport.write(request)
        self._wait(self._deadlines.write if self._is_writing else self._deadlines.read)

    async def reply(self) -> "Reply | Failure":
        """What came of the request, within its deadlines."""
        assert self._done is not None
        return await self._done

    def end(self, now: float) -> bool:
        """Forget the request. False: the connection cannot be used again, and is closed."""
        self._done = None
        if self._timer is not None:
            self._timer.cancel()
        self.idle_since = now
        is_clean = self._is_whole and self._is_kept_alive and not self._is_writing and not self.is_lost
        if not is_clean:
            self.close()
        return is_clean

    def close(self) -> None:
        """Close it; a request under way is cut off."""
        self.is_lost = True
        self._transport.abort()

    def _wait(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._finish, LATE)

    def _finish(self, found: "Reply | Failure") -> None:
        """End the request: with what was read if its code is known, else with what was found."""
        if self._done is not None and not self._done.done():
            self._done.set_result(self._reply or found)

    # -- what the transport says --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def pause_writing(self) -> None:
        self._is_writing = True

    def resume_writing(self) -> None:
        self._is_writing = False
        if self._done is not None and not self._done.done() and self._reply is None:
            self._wait(self._deadlines.read)

    def data_received(self, data: bytes) -> None:
        if self._done is None or self._done.done():  # not asked for: it must not be taken for the next answer
            self.close()
            return
        if is_new := self._reply is None:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserUpgrade, httptools.HttpParserError):
            self._is_kept_alive = False
            self._finish(Garbled("the answer was not valid HTTP"))
        if self._reply is None:
            if self._head_bytes > LONGEST_HEAD_BYTES:
                self._finish(Garbled("the answer had no end"))
        elif is_new and not self._done.done() and self._timer is not None:
            self._wait(min(self._deadlines.explanation, self._timer.when() - self._loop.time()))

    def eof_received(self) -> None:
        self.is_lost = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        if self._at_gate is not None:
            self._at_gate.cancel()
        kind = "closed" if exc is None else type(exc).__name__
        self._finish(CutOff(f"the connection was lost before the answer ({kind})"))

    # -- what the parser says -----------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Two answers to one request: the second would be taken for that of the next."""
        if self._is_whole:
            self._is_kept_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._headers.setdefault(name.lower(), value)

    def on_headers_complete(self) -> None:
        """The head of an answer is whole; interim ones (100 Continue) are passed over."""
        code = self._parser.get_status_code()
        if self._reply is None and (code >= 200 or code == 101):
            self._reply = Reply(code, self._headers)
        self._headers = {}

    def on_body(self, piece: bytes) -> None:
        """A piece of the body."""
        if self._reply is not None and not self._is_whole:
            self._reply.body += piece[: LONGEST_ANSWER_BYTES - len(self._reply.body)]
            if len(self._reply.body) >= LONGEST_ANSWER_BYTES:
                self._finish(self._reply)

    def on_message_complete(self) -> None:
        """An answer is whole."""
        if self._reply is not None and not self._is_whole:
            self._is_whole, self._is_kept_alive = True, self._parser.should_keep_alive()
            self._finish(self._reply)


class Connections:
    """Makes them to one host, and keeps those that can be used again. As many as there are calls at once."""

    def __init__(self, host: str, port: int, *, is_tls: bool, deadlines: Deadlines) -> None:
        self._host, self._port, self._deadlines = host, port, deadlines
        self._tls = ssl.create_default_context() if is_tls else None
        self._loop = asyncio.get_running_loop()
        self._idle: list[Connection] = []  #: the one that was used last stands last
        self._all: set[Connection] = set()

    async def take(self) -> Connection:
        """A connection that is ready for a request. Raises NotConnected. One that idled for long is closed here."""
        oldest = self._loop.time() - KEEP_ALIVE_SECONDS
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_lost and connection.idle_since > oldest:
                return connection
            self._all.discard(connection)
            connection.close()
        connection = await self._made()
        self._all.add(connection)
        return connection

    def give_back(self, connection: Connection) -> None:
        """Its request has ended: keep it, if it can be used again."""
        if connection.end(self._loop.time()):
            self._idle.append(connection)
        else:
            self._all.discard(connection)

    def close(self) -> None:
        """Close all of them."""
        for connection in self._all:
            connection.close()

    async def _made(self) -> Connection:
        try:
            async with asyncio.timeout(self._deadlines.connect):
                found = await self._loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
                tcp = await aiohappyeyeballs.start_connection(
                    found, happy_eyeballs_delay=NEXT_ADDRESS_SECONDS, interleave=1, loop=self._loop
                )
                try:
                    _, connection = await self._loop.create_connection(
                        lambda: Connection(self._deadlines),
                        sock=tcp,
                        ssl=self._tls,
                        server_hostname=self._host if self._tls else None,
                    )
                except BaseException:
                    tcp.close()
                    raise
                return connection
        except TimeoutError:
            raise NotConnected("the provider could not be reached in time") from None
        except (socket.gaierror, UnicodeError):
            raise NotConnected("the provider's name was not found") from None
        except (ssl.SSLError, ssl.CertificateError):
            raise NotConnected("no trusted TLS connection to the provider") from None
        except OSError:
            raise NotConnected("the provider could not be reached") from None
