"""The two routes that are asked most, past FastAPI's middleware, routing and dependencies; it has them, too.

What that saves is in docs/decisions.md (ADR-0024). A test asks both ways and compares.
"""

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope

from api import keys
from api.content import parse
from api.idempotency import key_of
from api.parts import parts_of
from api.routes import emails
from api.schemas import EmailBody
from api.scopes import caller_of

ASK, SEE = "/v1/emails", "/v1/emails/{id}"


async def fast_answer(scope: Scope, receive: Receive) -> Response | None:
    """The answer to one of the two; None: the application has it. Raises Problem as the routes do."""
    method, path = scope["method"], scope["path"]
    if method == "POST" and path == ASK:
        scope["mailstream.route"] = ASK
        request = Request(scope, receive)
        caller = caller_of(request, keys.Scope.SEND)
        key = key_of(request)
        body = parse(EmailBody, await request.body())
        return await emails.accepted(parts_of(request), caller, key, body)
    stem, _, name = path.rpartition("/")
    if method == "GET" and stem == ASK and name and not scope["query_string"]:
        scope["mailstream.route"] = SEE
        request = Request(scope, receive)
        return await emails.seen(parts_of(request), caller_of(request, keys.Scope.READ), name)
    return None
