"""Addresses that get no mail, per tenant: put there by bounces, complaints, unsubscribes, people and this API."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import Response

from api.deps import JsonBody, PartsDep
from api.problems import Code, Problem, invalid, responses
from api.schemas import SuppressBody, SuppressionAnswer, SuppressionList, SuppressionQuery
from api.scopes import Operator
from api.suppressions import record_of
from mailstream.clock import moment
from mailstream.domain import address as addresses
from mailstream.domain.errors import BadAddress
from mailstream.domain.recipient import canonical
from mailstream.domain.suppression import Origin, Suppression
from mailstream.domain.validation import Violation, is_unsafe

router = APIRouter(tags=["suppressions"], responses=responses(401, 403, 422, 429, 503))


async def _canonical(address: Annotated[str, Path(examples=["ada@example.com"])]) -> str:
    """The canonical address that the path names. Raises Problem 422."""
    try:
        addresses.check(address)
        return canonical(address)
    except BadAddress as error:
        raise invalid([Violation("/path/address", "bad_address", str(error))]) from None


AddressInPath = Annotated[str, Depends(_canonical)]


@router.get("/v1/suppressions", response_model=SuppressionList)
async def see_many(parts: PartsDep, caller: Operator, query: Annotated[SuppressionQuery, Query()]) -> Any:
    """The suppressed addresses of your tenant, in their order."""
    found = (await parts.suppressions.current()).page(caller.tenant, query.after or "", query.limit + 1)
    page = found[: query.limit]
    has_more = len(found) > len(page)
    return {"data": page, "has_more": has_more, "next": page[-1].address if has_more else None}


@router.get("/v1/suppressions/{address:path}", response_model=SuppressionAnswer, responses=responses(404))
async def see(parts: PartsDep, caller: Operator, address: AddressInPath) -> Suppression:
    """Returns the suppression, or 404 if the address is not suppressed."""
    found = (await parts.suppressions.current()).get(caller.tenant, address)
    if found is None:
        raise Problem(Code.NOT_FOUND, "The address is not suppressed.")
    return found


@router.put("/v1/suppressions/{address:path}", response_model=SuppressionAnswer, responses=responses(400, 413))
async def put(
    parts: PartsDep,
    caller: Operator,
    address: AddressInPath,
    body: Annotated[SuppressBody, Depends(JsonBody(SuppressBody, is_required=False))],
) -> Suppression:
    """Let an address get no more mail of your tenant, those that wait included."""
    if is_unsafe(body.reason):
        raise invalid([Violation("/reason", "control_character", "control characters and line breaks are refused")])
    now = moment(parts.clock.now())
    record = record_of(caller.tenant, address, Origin.PERSON, reason=body.reason, since=now, by=caller.name)
    await parts.suppressions.put(record)
    return record


@router.delete("/v1/suppressions/{address:path}", status_code=204, response_class=Response)
async def remove(parts: PartsDep, caller: Operator, address: AddressInPath) -> None:
    """Let an address get mail again. What SendGrid suppresses by itself, it goes on suppressing."""
    await parts.suppressions.remove(caller.tenant, address)
