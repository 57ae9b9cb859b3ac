"""Pages of a tenant's emails: filters, cursors, and no more than a moment of the loop at a time."""

import asyncio
import base64
import struct
from dataclasses import dataclass

from api.problems import Code, Problem
from api.schemas import ListQuery
from api.view.listing import Listing, Place, microseconds
from api.view.lookup import Lookup
from mailstream.domain.status import EmailStatus

#: Emails that are looked at before others get their turn, and at most for one page. A page may so be short, or empty,
#: while ``has_more`` is true: the next one goes on from there.
_CHUNK, _MOST = 500, 100_000
_FAR = 2**62


@dataclass(frozen=True, slots=True)
class Page:
    """Some emails, and where the next page begins."""

    emails: list[EmailStatus]
    next: str | None


async def page(lookup: Lookup, listing: Listing, tenant: str, query: ListQuery) -> Page:
    """Emails that fit the query, newest first. Raises Problem 400 for a cursor that is not ours."""
    place = _place_of(query.after) if query.after is not None else None
    since = microseconds(query.since) if query.since else -_FAR
    until = microseconds(query.until) if query.until else _FAR
    if query.reference is not None:
        return _referred(lookup, listing.with_reference(tenant, query.reference), place, (since, until), tenant, query)
    found: list[EmailStatus] = []
    looked_at = 0
    while places := listing.older(tenant, place, since, until, _CHUNK):
        for each in places:
            status = lookup.known(each.key)
            if status is not None and _fits(status, tenant, query):
                if len(found) == query.limit:
                    return Page(found, _cursor(place))
                found.append(status)
            place = each
        looked_at += len(places)
        if looked_at >= _MOST:
            return Page(found, _cursor(place))
        await asyncio.sleep(0)
    return Page(found, None)


def _referred(
    lookup: Lookup,
    keys: tuple[bytes, ...],
    before: Place | None,
    span: tuple[int, int],
    tenant: str,
    query: ListQuery,
) -> Page:
    """Few emails carry one reference: all are looked at."""
    found = []
    for key in keys:
        status = lookup.known(key)
        if status is not None and _fits(status, tenant, query):
            place = Place(microseconds(status.created_at), key)
            if span[0] <= place.created < span[1] and (before is None or place < before):
                found.append((place, status))
    found.sort(key=lambda pair: pair[0], reverse=True)
    shown = found[: query.limit]
    return Page([status for _, status in shown], _cursor(shown[-1][0]) if len(found) > len(shown) else None)


def _fits(status: EmailStatus, tenant: str, query: ListQuery) -> bool:
    return (
        status.tenant == tenant
        and (query.status is None or status.status is query.status)
        and (query.tag is None or query.tag in status.tags)
        and (query.reference is None or status.reference == query.reference)
    )


def _cursor(place: Place | None) -> str | None:
    if place is None:
        return None
    return base64.urlsafe_b64encode(struct.pack(">q", place.created) + place.key).decode().rstrip("=")


def _place_of(cursor: str) -> Place:
    try:
        data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        [created] = struct.unpack(">q", data[:8])
    except (ValueError, struct.error):
        raise Problem(Code.BAD_CURSOR, "Send `next` of the page before, unchanged.") from None
    return Place(created, data[8:])
