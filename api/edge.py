"""The outer edge of every request: its id, its limits in bytes and seconds, its last resort when a route fails.

Pure ASGI: a few microseconds for each request.
"""

import asyncio
import re
import sys
import traceback
from typing import Any

import structlog
import uuid_utils
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.metrics import Metrics
from api.problems import Code, Problem, response_of

_log = structlog.get_logger(__name__)
_GIVEN_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
#: For JSON of any kind: nothing here is a page, and nothing may be guessed or framed (security.md S18).
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
]
#: A whole body must have come by then (S6).
BODY_SECONDS = 10.0


class Edge:
    """Middleware around all routes."""

    def __init__(self, app: ASGIApp, metrics: Metrics, body_bytes: dict[str, int], default_body_bytes: int) -> None:
        self._app, self._metrics = app, metrics
        self._body_bytes, self._default_body_bytes = body_bytes, default_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _id_of(scope)
        scope["mailstream.request_id"] = request_id
        answered = 0

        async def answer(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = message["status"]
                message["headers"] = [*message["headers"], *_HEADERS, (b"x-request-id", request_id.encode())]
            await send(message)

        limit = self._body_bytes.get(scope["path"], self._default_body_bytes)
        try:
            await self._app(scope, _Bounded(receive, limit, scope["headers"]), answer)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            problem = error if isinstance(error, Problem) else _unforeseen(error, request_id)
            if answered:  # half an answer is out: only closing the connection tells the truth
                raise ConnectionResetError from None
            await response_of(problem, request_id)(scope, receive, answer)
        finally:
            route = scope.get("route")
            self._metrics.answers.labels(getattr(route, "path", "none"), str(answered)).inc()


class _Bounded:
    """``receive`` that ends with a Problem when a body is too large, counted while it comes, or too slow."""

    def __init__(self, receive: Receive, limit: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._receive, self._limit = receive, limit
        self._read = 0
        self._is_whole = False
        self._deadline: float | None = None
        self._declared = next((value for name, value in headers if name == b"content-length"), b"0")

    async def __call__(self) -> Message:
        if self._is_whole:
            return await self._receive()
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().time() + BODY_SECONDS
            if self._declared.isdigit() and int(self._declared) > self._limit:
                raise self._too_large()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            raise Problem(
                Code.TOO_SLOW,
                f"The body did not arrive within {BODY_SECONDS:.0f} s.",
                headers={"Connection": "close"},
            ) from None
        self._read += len(message.get("body", b""))
        if self._read > self._limit:
            raise self._too_large()
        self._is_whole = not message.get("more_body", False)
        return message

    def _too_large(self) -> Problem:
        return Problem(Code.TOO_LARGE, f"A body may have {self._limit} bytes here.", headers={"Connection": "close"})


def _id_of(scope: Scope) -> str:
    """The caller's own id of the request when it is a plain one, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _GIVEN_ID.fullmatch(value):
            return str(value.decode())
    return f"req_{uuid_utils.uuid7().hex}"


def _unforeseen(error: Exception, request_id: str) -> Problem:
    """A bug. Its text may hold an address, so only its kind and place are logged."""
    frames: list[Any] = traceback.extract_tb(sys.exc_info()[2])
    _log.error(
        "request.failed",
        request_id=request_id,
        error=type(error).__name__,
        where=[f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in frames[-6:]],
    )
    return Problem(Code.INTERNAL, "This was logged under the request id. Whether anything was accepted is not known.")
