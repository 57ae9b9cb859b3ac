"""Who asks, and whether the key has the scope that the route needs: 401, 403, 429."""

from typing import Annotated, Any

from fastapi import Security
from fastapi.security import APIKeyHeader, HTTPBearer, SecurityScopes
from starlette.requests import Request

from api.keys import Key, Scope
from api.parts import parts_of
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
