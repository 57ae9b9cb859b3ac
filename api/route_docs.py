"""What plain routes read themselves, for the OpenAPI document."""

from typing import Any

from pydantic import BaseModel

from api.event_stream import MEDIA_TYPE
from api.mail_send import SendGridErrors

#: Bodies that stand in the document though FastAPI does not read them.
BODIES: set[type[BaseModel]] = set()

#: The ``x-scope`` of routes that need no key.
PUBLIC = "public"
ID = {
    "name": "id",
    "in": "path",
    "required": True,
    "schema": {"type": "string"},
    "example": "em_1c2f9a3b_0192f0c1b2a37c4d8e5f60718293a4b5",
}
ADDRESS = {
    "name": "address",
    "in": "path",
    "required": True,
    "schema": {"type": "string"},
    "example": "ada@example.com",
}
TEMPLATE = {
    "name": "name",
    "in": "path",
    "required": True,
    "schema": {"type": "string"},
    "example": "order-shipped@1",
}
TOKEN = {"name": "token", "in": "path", "required": True, "schema": {"type": "string"}}
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "pattern": '^("[ !#-\\[\\]-~]{1,255}"|[!#-~][!-~]{0,254})$'},
    "description": "1 to 255 printable characters, quoted or bare: the same key and body give the first answer again",
}
BATCH_ID = {"name": "batch_id", "in": "path", "required": True, "schema": {"type": "string"}}
LAST_EVENT_ID = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "the `id` of the last event that you have",
}
WAIT = {
    "name": "wait",
    "in": "query",
    "required": False,
    "schema": {"type": "integer", "minimum": 0, "maximum": 60},
    "description": "seconds to wait for a final status",
}
EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"description": "Server-sent events", "content": {MEDIA_TYPE: {"schema": {"type": "string"}}}}
}


def sendgrid_errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors of SendGrid's own routes, in its form."""
    return {status: {"model": SendGridErrors, "description": "SendGrid's error body"} for status in statuses}


def body_of(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """The request body of a route, by its model."""
    BODIES.add(model)
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}
