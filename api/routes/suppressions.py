"""Addresses that get no mail, per tenant: put there by bounces, complaints, unsubscribes, people and this API."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from api.auth import KEY, caller_of
from api.content import parse
from api.keys import Scope
from api.parts import parts_of
from api.plain_route import PlainRoute
from api.problems import Code, Problem, invalid, responses
from api.route_docs import ADDRESS, body_of
from api.schemas import SuppressBody, SuppressionAnswer, SuppressionList, SuppressionQuery
from mailstream import address as addresses
from mailstream.clock import moment
from mailstream.errors import BadAddress
from mailstream.mistakes import Mistake, is_unsafe
from mailstream.recipient import canonical, recipient_hash
from mailstream.suppression import Origin, Suppression

router = APIRouter(tags=["suppressions"], route_class=PlainRoute)
listing = APIRouter(tags=["suppressions"])


@listing.get(
    "/v1/suppressions",
    dependencies=[KEY],
    responses=responses(401, 403, 422, 429, 503),
    openapi_extra={"x-scope": Scope.OPERATE},
)
async def see_many(request: Request, query: Annotated[SuppressionQuery, Query()]) -> SuppressionList:
    """The suppressed addresses of your tenant, in their order."""
    parts, caller = parts_of(request), caller_of(request, Scope.OPERATE)
    found = await parts.suppressions.page(caller.tenant, query.after or "", query.limit + 1)
    page = found[: query.limit]
    has_more = len(found) > len(page)
    return SuppressionList(
        data=[_answer(each) for each in page], has_more=has_more, next=page[-1].address if has_more else None
    )


@router.get(
    "/v1/suppressions/{address:path}",
    response_model=SuppressionAnswer,
    dependencies=[KEY],
    responses=responses(401, 403, 404, 422, 429, 503),
    openapi_extra={"parameters": [ADDRESS], "x-scope": Scope.OPERATE},
)
async def see(request: Request) -> Response:
    """Why an address gets no mail. 404: it does."""
    parts, caller = parts_of(request), caller_of(request, Scope.OPERATE)
    found = await parts.suppressions.get(caller.tenant, _address_in(request))
    if found is None:
        raise Problem(Code.NOT_FOUND, "The address is not suppressed.")
    return Response(_answer(found).model_dump_json(), media_type="application/json")


@router.put(
    "/v1/suppressions/{address:path}",
    response_model=SuppressionAnswer,
    dependencies=[KEY],
    responses=responses(400, 401, 403, 413, 422, 429, 503),
    openapi_extra=body_of(SuppressBody, required=False) | {"parameters": [ADDRESS], "x-scope": Scope.OPERATE},
)
async def put(request: Request) -> Response:
    """Let an address get no more mail of your tenant, those that wait included."""
    parts, caller = parts_of(request), caller_of(request, Scope.OPERATE)
    address = _address_in(request)
    body = parse(SuppressBody, await request.body() or b"{}")
    if is_unsafe(body.reason):
        raise invalid([Mistake("/reason", "control_character", "control characters and line breaks are refused")])
    record = Suppression(
        tenant=caller.tenant,
        recipient=f"{recipient_hash(address):08x}",
        address=address,
        origin=Origin.PERSON,
        reason=body.reason,
        since=moment(parts.clock.now()),
        by=caller.name,
    )
    await parts.suppressions.put(record)
    return Response(_answer(record).model_dump_json(), media_type="application/json")


@router.delete(
    "/v1/suppressions/{address:path}",
    status_code=204,
    response_class=Response,
    dependencies=[KEY],
    responses=responses(401, 403, 422, 429, 503),
    openapi_extra={"parameters": [ADDRESS], "x-scope": Scope.OPERATE},
)
async def remove(request: Request) -> Response:
    """Let an address get mail again. What SendGrid suppresses by itself, it goes on suppressing."""
    parts, caller = parts_of(request), caller_of(request, Scope.OPERATE)
    await parts.suppressions.remove(caller.tenant, _address_in(request))
    return Response(status_code=204)


def _address_in(request: Request) -> str:
    """The canonical address that the path names. Raises Problem 422."""
    text = request.path_params["address"]
    try:
        addresses.check(text)
        return canonical(text)
    except BadAddress as error:
        raise invalid([Mistake("/path/address", "bad_address", str(error))]) from None


def _answer(record: Suppression) -> SuppressionAnswer:
    return SuppressionAnswer(
        address=record.address, origin=record.origin, reason=record.reason, since=record.since, by=record.by
    )
