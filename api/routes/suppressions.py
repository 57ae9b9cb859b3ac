"""Addresses that get no mail, per tenant: put there by bounces, complaints, unsubscribes, people and this API."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import Response

from api.deps import JsonBody, Operator, PartsDep
from api.problems import Code, Problem, invalid, responses
from api.schemas import SuppressBody, SuppressionAnswer, SuppressionList, SuppressionQuery
from mailstream.clock import moment
from mailstream.domain import address as addresses
from mailstream.domain.errors import BadAddress
from mailstream.domain.recipient import canonical, recipient_hash
from mailstream.domain.suppression import Origin, Suppression
from mailstream.domain.validation import Mistake, is_unsafe

router = APIRouter(tags=["suppressions"])


async def _canonical(address: Annotated[str, Path(examples=["ada@example.com"])]) -> str:
    """The canonical address that the path names. Raises Problem 422."""
    try:
        addresses.check(address)
        return canonical(address)
    except BadAddress as error:
        raise invalid([Mistake("/path/address", "bad_address", str(error))]) from None


AddressInPath = Annotated[str, Depends(_canonical)]


@router.get("/v1/suppressions", responses=responses(401, 403, 422, 429, 503))
async def see_many(parts: PartsDep, caller: Operator, query: Annotated[SuppressionQuery, Query()]) -> SuppressionList:
    """The suppressed addresses of your tenant, in their order."""
    found = await parts.suppressions.page(caller.tenant, query.after or "", query.limit + 1)
    page = found[: query.limit]
    has_more = len(found) > len(page)
    return SuppressionList(
        data=[_answer(each) for each in page], has_more=has_more, next=page[-1].address if has_more else None
    )


@router.get("/v1/suppressions/{address:path}", responses=responses(401, 403, 404, 422, 429, 503))
async def see(parts: PartsDep, caller: Operator, address: AddressInPath) -> SuppressionAnswer:
    """Returns the suppression, or 404 if the address is not suppressed."""
    found = await parts.suppressions.get(caller.tenant, address)
    if found is None:
        raise Problem(Code.NOT_FOUND, "The address is not suppressed.")
    return _answer(found)


@router.put("/v1/suppressions/{address:path}", responses=responses(400, 401, 403, 413, 422, 429, 503))
async def put(
    parts: PartsDep,
    caller: Operator,
    address: AddressInPath,
    body: Annotated[SuppressBody, Depends(JsonBody(SuppressBody, is_required=False))],
) -> SuppressionAnswer:
    """Let an address get no more mail of your tenant, those that wait included."""
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
    return _answer(record)


@router.delete(
    "/v1/suppressions/{address:path}",
    status_code=204,
    response_class=Response,
    responses=responses(401, 403, 422, 429, 503),
)
async def remove(parts: PartsDep, caller: Operator, address: AddressInPath) -> None:
    """Let an address get mail again. What SendGrid suppresses by itself, it goes on suppressing."""
    await parts.suppressions.remove(caller.tenant, address)


def _answer(record: Suppression) -> SuppressionAnswer:
    return SuppressionAnswer(
        address=record.address, origin=record.origin, reason=record.reason, since=record.since, by=record.by
    )
