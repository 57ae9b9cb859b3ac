"""One-click unsubscribe (RFC 8058): the mail program posts to the address in the mail's header. No key is needed.

A GET changes nothing: scanners follow every link in a mail. It shows one button to people.
"""

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from api.deps import PartsDep
from api.problems import Code, Problem, responses
from api.suppressions import record_of
from mailstream.clock import moment
from mailstream.domain.suppression import Origin
from mailstream.domain.unsubscribe import PATH

router = APIRouter(tags=["suppressions"])

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><body><h1>{title}</h1>{body}</body></html>"""
_ASK = '<form method="post"><button name="List-Unsubscribe" value="One-Click">Unsubscribe</button></form>'
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; form-action 'self'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}


async def _whose(parts: PartsDep, token: str) -> tuple[str, str]:
    """Tenant and address in the token. Raises Problem 404."""
    found = parts.unsubscribe.read(token)
    if found is None:
        raise Problem(Code.NOT_FOUND, "This is not the address of an unsubscribe page.")
    return found


Whose = Annotated[tuple[str, str], Depends(_whose)]


@router.get(PATH + "{token}", response_class=HTMLResponse, responses=responses(404))
async def ask(_: Whose) -> Response:
    """A page with one button."""
    return HTMLResponse(_PAGE.format(title="Unsubscribe?", body=_ASK), headers=_HEADERS)


@router.post(
    PATH + "{token}",
    response_class=HTMLResponse,
    responses=responses(404, 413, 503),
    openapi_extra={  # we do not read the form: whose it is stands in the token
        "requestBody": {
            "content": {
                "application/x-www-form-urlencoded": {
                    "schema": {"type": "object", "properties": {"List-Unsubscribe": {"const": "One-Click"}}}
                }
            }
        },
    },
)
async def unsubscribe(request: Request, parts: PartsDep, whose: Whose) -> Response:
    """Let the recipient of the mail get no more mail of its sender."""
    tenant, address = whose
    await request.body()
    now = moment(parts.clock.now())
    await parts.suppressions.put(
        record_of(tenant, address, Origin.UNSUBSCRIBE, reason="one-click unsubscribe", since=now, by="recipient")
    )
    body = "<p>You will get no more mail from this sender.</p>"
    return HTMLResponse(_PAGE.format(title="Unsubscribed", body=body), headers=_HEADERS)
