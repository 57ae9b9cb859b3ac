"""The outer edge of every request: its id, its limits in bytes and seconds, its last resort when a route fails.

Pure ASGI: a few microseconds for each request.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import uuid_utils
from fastapi import FastAPI
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from api.metrics import Metrics
from api.problems import Code, Problem, problem_of, response_of
from mailstream.domain.topics import MIB

_GIVEN_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
#: For JSON of any kind: nothing here is a page, and nothing may be guessed or framed.
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
]
#: A whole body must have come by then.
BODY_SECONDS = 10.0
#: Bodies in memory at once, of all requests.
BODIES_BYTES = 128 * MIB


@dataclass(slots=True, eq=False)
class GatewayMiddleware:
    """What the server calls: all routes, with the fast lane in front."""

    app: FastAPI
    fast: Callable[[Scope, Receive], Awaitable[Response | None]]
    metrics: Metrics
    body_bytes: Mapping[str, int]  #: of paths that take more than a MiB
    used: int = 0  #: bytes of bodies that are in memory right now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _id_of(scope)
        scope["mailstream.request_id"] = request_id
        scope["mailstream.parts"] = self.app.state.parts
        answered = 0

        async def answer(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = message["status"]
                message["headers"] = [*message["headers"], *_HEADERS, (b"x-request-id", request_id.encode())]
                if (more := scope.get("mailstream.headers")) is not None:
                    message["headers"] += [(name.lower().encode(), value.encode()) for name, value in more.items()]
            await send(message)

        bounded = _Bounded(receive, self.body_bytes.get(scope["path"], MIB), scope, self)
        try:
            if (response := await self.fast(scope, bounded)) is not None:
                await response(scope, receive, answer)
            else:
                await self.app(scope, bounded, answer)
        except Exception as error:
            if not answered:  # else half an answer is out: the server closes the connection, which tells the truth
                await response_of(problem_of(error, scope), scope)(scope, receive, answer)
        finally:
            self.used -= bounded.read
            route = str(scope.get("mailstream.route") or getattr(scope.get("route"), "path", "none"))
            self.metrics.answered(route, answered)


class _Bounded:
    """``receive`` that ends with a Problem when a body is too large, counted while it comes, or too slow."""

    def __init__(self, receive: Receive, limit: int, scope: Scope, edge: GatewayMiddleware) -> None:
        self._receive, self._limit, self._edge = receive, limit, edge
        self.read = 0
        self._is_whole = False
        self._deadline: float | None = None
        self._declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        #: whether the whole body has come; the server may not say
        self._is_here: Callable[[], bool] = scope.get("mailstream.is_whole", bool)

    async def __call__(self) -> Message:
        if self._is_whole:
            return await self._receive()
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().time() + BODY_SECONDS
            if self._declared.isdigit() and int(self._declared) > self._limit:
                raise self._too_large()
        # A timeout costs as much as all the rest of this: none for a body that need not be waited for.
        message = await self._receive() if self._is_here() else await self._in_time(self._deadline)
        if size := len(message.get("body", b"")):
            self.read += size
            self._edge.used += size
            if self.read > self._limit:
                raise self._too_large()
            if self._edge.used > BODIES_BYTES:
                raise Problem(Code.SATURATED, "Too many large requests are under way. Nothing was accepted.")
        self._is_whole = not message.get("more_body", False)
        return message

    async def _in_time(self, deadline: float) -> Message:
        try:
            async with asyncio.timeout_at(deadline):
                return await self._receive()
        except TimeoutError:
            raise Problem(
                Code.TOO_SLOW,
                f"The body did not arrive within {BODY_SECONDS:.0f} s.",
                headers={"Connection": "close"},
            ) from None

    def _too_large(self) -> Problem:
        return Problem(Code.TOO_LARGE, f"A body may have {self._limit} bytes here.")


def _id_of(scope: Scope) -> str:
    """The caller's own id of the request when it is a plain one, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _GIVEN_ID.fullmatch(value):
            return str(value.decode())
    return f"req_{uuid_utils.uuid7().hex}"
