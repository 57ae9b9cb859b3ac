"""Every error of the API as ``application/problem+json`` (RFC 9457): a closed list, fixed texts, never a stack.

What an exception says never reaches a caller: it may hold an address or a secret.
"""

import traceback
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import msgspec
import structlog
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from mailstream.domain.errors import NotCaughtUp
from mailstream.domain.validation import Violation, pointer_to

_log = structlog.get_logger(__name__)
MEDIA_TYPE = "application/problem+json"


class Code(Enum):
    """Each error: name, HTTP status, title. Closed: callers may switch on ``code``."""

    BAD_REQUEST = ("bad_request", 400, "The request cannot be read")
    NOT_JSON = ("not_json", 400, "The body is not valid JSON")
    BAD_IDEMPOTENCY_KEY = ("bad_idempotency_key", 400, "The Idempotency-Key cannot be used")
    BAD_CURSOR = ("bad_cursor", 400, "The cursor is not one of ours")
    UNAUTHENTICATED = ("unauthenticated", 401, "No valid API key")
    BAD_SIGNATURE = ("bad_signature", 401, "The signature does not match")
    SCOPE_MISSING = ("scope_missing", 403, "The API key may not do this")
    SENDER_NOT_ALLOWED = ("sender_not_allowed", 403, "The API key may not send from this address")
    RECIPIENT_NOT_ALLOWED = ("recipient_not_allowed", 403, "The API key may not send to this address")
    NOT_FOUND = ("not_found", 404, "There is no such thing")
    METHOD_NOT_ALLOWED = ("method_not_allowed", 405, "The method is not allowed here")
    TOO_SLOW = ("too_slow", 408, "The request took too long to arrive")
    ALREADY_SENDING = ("already_sending", 409, "It is too late for this email")
    STILL_UNANSWERED = ("still_unanswered", 409, "The first request with this key is not answered yet")
    TOO_LARGE = ("too_large", 413, "The request is too large")
    INVALID = ("invalid", 422, "The request has mistakes")
    IDEMPOTENCY_KEY_REUSED = ("idempotency_key_reused", 422, "The Idempotency-Key was used for another request")
    RATE_LIMITED = ("rate_limited", 429, "Too many requests")
    QUOTA_USED_UP = ("quota_used_up", 429, "The quota of today is used up")
    TOO_MANY_STREAMS = ("too_many_streams", 429, "Too many open streams")
    INTERNAL = ("internal", 500, "Something went wrong on our side")
    NOT_ACKNOWLEDGED = ("not_acknowledged", 503, "Kafka did not acknowledge the record in time")
    SATURATED = ("saturated", 503, "Too much is under way")
    NOT_CAUGHT_UP = ("not_caught_up", 503, "The view is loading or cut off from Kafka")

    def __init__(self, word: str, status: int, title: str) -> None:
        self.word, self.status, self.title = word, status, title


#: A caller should ask again after a second.
AGAIN = frozenset({Code.NOT_ACKNOWLEDGED, Code.SATURATED, Code.NOT_CAUGHT_UP, Code.STILL_UNANSWERED})
#: What the framework refuses by itself, by status.
_BY_STATUS = {
    404: (Code.NOT_FOUND, "Nothing is at this address."),
    405: (Code.METHOD_NOT_ALLOWED, "The header Allow lists what is."),
    413: (Code.TOO_LARGE, "The body is larger than this route takes."),
}


class Problem(Exception):
    """An answer that is an error. ``detail`` is for people and repeats no value of the request."""

    def __init__(
        self,
        code: Code,
        detail: str,
        *,
        errors: Sequence[Violation] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(code.word)
        self.code, self.detail, self.errors = code, detail, errors
        self.headers = dict(headers or {})
        if code in AGAIN:
            self.headers.setdefault("Retry-After", "1")


class MistakeBody(BaseModel):
    """One mistake and its place."""

    detail: str
    pointer: str = Field(description="JSON pointer into the request; empty: the request as a whole")
    code: str


class ProblemBody(BaseModel):
    """RFC 9457 problem details."""

    type: str = Field(description="address of a page about this problem")
    title: str
    status: int
    detail: str
    code: str = Field(description="closed list, for programs")
    errors: list[MistakeBody] = []
    request_id: str


def response_of(problem: Problem, scope: Scope) -> Response:
    """The problem as it goes to the caller: on SendGrid's own routes in SendGrid's form."""
    if scope["path"].startswith("/v3/"):
        return _sendgrid_response_of(problem)
    code = problem.code
    body: dict[str, Any] = {
        "type": f"/problems/{code.word}",
        "title": code.title,
        "status": code.status,
        "detail": problem.detail,
        "code": code.word,
        "errors": [{"detail": m.detail, "pointer": m.pointer, "code": m.code} for m in problem.errors],
        "request_id": scope.get("mailstream.request_id", ""),
    }
    headers = problem.headers | {"Cache-Control": "no-store"}
    return Response(msgspec.json.encode(body), code.status, headers, MEDIA_TYPE)


def _sendgrid_response_of(problem: Problem) -> Response:
    """SendGrid knows no 422, and names a field by dots."""
    told = [(each.detail, each.pointer.lstrip("/").replace("/", ".") or None) for each in problem.errors]
    errors = [{"message": message, "field": field, "help": None} for message, field in told or [(problem.detail, None)]]
    status = 400 if problem.code.status == 422 else problem.code.status
    return Response(msgspec.json.encode({"errors": errors}), status, problem.headers, "application/json")


def problem_of(error: Exception, scope: Scope) -> Problem:
    """What a caller is told of an exception."""
    match error:
        case Problem():
            return error
        case NotCaughtUp():
            return Problem(Code.NOT_CAUGHT_UP, "What the log says cannot be told right now. Ask again.")
        case HTTPException():
            code = Code.BAD_REQUEST if error.status_code < 500 else Code.INTERNAL
            code, detail = _BY_STATUS.get(error.status_code, (code, "The request does not fit this route."))
            return Problem(code, detail, headers=error.headers)
        case RequestValidationError():
            mistakes = [Violation(pointer_to(*each["loc"]), each["type"], each["msg"]) for each in error.errors()]
            return Problem(
                Code.INVALID, "The request has mistakes; `errors` names each with its place.", errors=mistakes
            )
        case _:
            return _unforeseen(error, str(scope.get("mailstream.request_id", "")))


def _unforeseen(error: Exception, request_id: str) -> Problem:
    """A bug. Its text may hold an address, so only its kind and place are logged."""
    frames = traceback.extract_tb(error.__traceback__)
    where = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in frames[-6:]]
    _log.error("request.failed", request_id=request_id, error=type(error).__name__, where=where)
    return Problem(Code.INTERNAL, "This was logged under the request id. Whether anything was accepted is not known.")


def invalid(mistakes: Sequence[Violation]) -> Problem:
    """422 with every mistake."""
    return Problem(
        Code.INVALID,
        "The request has mistakes; `errors` names each with its place. Nothing was accepted.",
        errors=mistakes,
    )


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors of a route, for OpenAPI."""
    return {
        status: {
            "description": "; ".join(code.title for code in Code if code.status == status),
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemBody"}}},
        }
        for status in sorted(statuses)
    }
