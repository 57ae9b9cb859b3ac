"""Emails: ask for one, and see where it stands."""

from typing import Any

from fastapi import APIRouter
from msgspec import structs
from starlette.requests import Request
from starlette.responses import Response

from api import answers
from api.auth import caller_of, needs
from api.content import parse
from api.idempotency import REPLAYED, key_of
from api.keys import Scope
from api.parts import parts_of
from api.plain_route import PlainRoute
from api.problems import Code, Problem, responses
from api.schemas import EmailAnswer, EmailBody, Receipt
from mailstream import email_id
from mailstream.clock import moment
from mailstream.recipient import canonical

router = APIRouter(tags=["emails"], route_class=PlainRoute)

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/EmailBody"}}},
    }
}
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 257},
    "description": "1 to 255 printable characters: the same key and body give the first answer again",
}


@router.post(
    "/v1/emails",
    status_code=202,
    response_model=Receipt,
    dependencies=[needs(Scope.SEND)],
    responses=responses(400, 401, 403, 408, 409, 413, 422, 429, 503),
    openapi_extra=_BODY | {"parameters": [_KEY], "x-scope": Scope.SEND},
)
async def ask(request: Request) -> Response:
    """Ask for one email. 202 means that Kafka has the request.

    After a 503 it may or may not: ask again with the same Idempotency-Key, it is sent once.
    """
    parts = parts_of(request)
    caller = caller_of(request, Scope.SEND)
    key = key_of(request)
    body = parse(EmailBody, await request.body())
    with parts.metrics.accept_seconds.time():
        source = "POST /v1/emails"
        asked = await parts.content.settled(body.request(), caller, moment(parts.clock.now()), source)
        recipient = canonical(asked.to.email)
        if key is None:
            asked = structs.replace(asked, id=email_id.new(recipient))
            await parts.submit.new(asked)
            is_replay = False
        else:
            derived = email_id.derived(caller.tenant, source, key, recipient)
            asked = structs.replace(asked, id=derived, idempotency_key=key)
            is_replay = await parts.submit.once(asked)
    assert asked.id is not None
    receipt = answers.receipt(asked.id, asked.reference)
    headers = {"Location": receipt.links.self} | (REPLAYED if is_replay else {})
    return Response(receipt.model_dump_json(), 202, headers, "application/json")


@router.get(
    "/v1/emails/{id}",
    response_model=EmailAnswer,
    dependencies=[needs(Scope.READ)],
    responses=responses(401, 403, 404, 429, 503),
    openapi_extra={"parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}],
                   "x-scope": Scope.READ},
)  # fmt: skip
async def see(request: Request) -> Response:
    """Where an email stands. 404 means that the log did not have it when you asked."""
    parts = parts_of(request)
    caller = caller_of(request, Scope.READ)
    asked = request.path_params["id"]
    status = await parts.lookup.find(asked, caller.tenant) if email_id.is_email_id(asked) else None
    if status is None:
        raise Problem(Code.NOT_FOUND, "No email has this id.")
    return Response(answers.email(status, caller).model_dump_json(), 200, media_type="application/json")
