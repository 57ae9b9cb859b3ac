"""What a route asks for in its signature: the caller and the scope that it needs, the body, the parts of the process."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Header, Path, Security
from fastapi.security import APIKeyHeader, HTTPBearer, SecurityScopes
from pydantic import BaseModel
from starlette.requests import Request

from api.content import parse
from api.idempotency import key_of
from api.keys import Key, Scope
from api.parts import AppState, parts_of
from api.problems import Code, Problem

_BEARER = HTTPBearer(auto_error=False, description="`Authorization: Bearer KEY`")
_HEADER = APIKeyHeader(name="X-API-Key", auto_error=False, description="the same key in a header of its own")
#: One text for a missing, a malformed and an unknown key: nothing can be learned from the difference.
_UNAUTHENTICATED = "Send your API key as `Authorization: Bearer KEY` or `X-API-Key: KEY`."
_MAX_KEY_BYTES = 512


def caller_of(request: Request, scope: Scope) -> Key:
    """Whose request this is. Raises Problem 401 without a valid key, 403 without the scope, 429 when it asks too often."""
    parts = parts_of(request)
    key = parts.keys.find(_secret_in(request))
    if key is None:
        raise Problem(Code.UNAUTHENTICATED, _UNAUTHENTICATED, headers={"WWW-Authenticate": "Bearer"})
    if not key.has(scope):
        raise Problem(Code.SCOPE_MISSING, f"This needs the scope `{scope}`.")
    if headers := parts.rates.take(key):
        request.scope["mailstream.headers"] = headers
    return key


async def caller(
    request: Request,
    needed: SecurityScopes,
    _bearer: Annotated[Any, Security(_BEARER)],
    _header: Annotated[Any, Security(_HEADER)],
) -> Key:
    """The same for ``Security(caller, scopes=[…])``; the two schemes only stand in the OpenAPI document."""
    [scope] = needed.scopes
    return caller_of(request, Scope(scope))


Sender = Annotated[Key, Security(caller, scopes=[Scope.SEND])]
Reader = Annotated[Key, Security(caller, scopes=[Scope.READ])]
Operator = Annotated[Key, Security(caller, scopes=[Scope.OPERATE])]
Admin = Annotated[Key, Security(caller, scopes=[Scope.ADMIN])]


async def _parts(request: Request) -> AppState:
    return parts_of(request)


PartsDep = Annotated[AppState, Depends(_parts)]


@dataclass(frozen=True)
class JsonBody:
    """A body of this model; ``app.py`` puts it into the OpenAPI document.

    FastAPI reads a body only if its content type is JSON, and curl sends another one unless it is told; and it parses it
    into dicts first, for which "strict" means something else.
    """

    model: type[BaseModel]
    is_required: bool = True
    is_raw: bool = False  #: handed over as the bytes that came

    async def __call__(self, request: Request) -> Any:
        """Raises Problem 400, 422, and what a body that is too large or too slow is answered with."""
        raw = await request.body()
        return raw if self.is_raw else parse(self.model, raw if raw or self.is_required else b"{}")


async def _key(
    request: Request,
    _header: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description="1 to 255 printable characters, quoted or bare: the same key and body give the first answer again",
            json_schema_extra={"pattern": '^("[ !#-\\[\\]-~]{1,255}"|[!#-~][!-~]{0,254})$'},
        ),
    ] = None,
) -> str | None:
    return key_of(request)


IdempotencyKey = Annotated[str | None, Depends(_key)]
EmailId = Annotated[str, Path(alias="id", examples=["em_1c2f9a3b_0192f0c1b2a37c4d8e5f60718293a4b5"])]


def _secret_in(request: Request) -> bytes:
    """The key as it was sent; empty when there is none, or it is not of a kind that we make."""
    found = b""
    for name, value in request.scope["headers"]:
        if name == b"authorization":
            scheme, _, secret = value.partition(b" ")
            if scheme.lower() == b"bearer":
                found = secret.strip()
                break
        elif name == b"x-api-key":
            found = value.strip()
    return found if 0 < len(found) <= _MAX_KEY_BYTES else b""
