"""Pages of a tenant's emails: filters, cursors, and only a moment of the loop at a time."""

import asyncio
import base64
import struct

from api import responses
from api.problems import Code, Problem
from api.schemas import EmailAnswer, EmailList, ListQuery
from api.view.listing import Listing, Place, microseconds
from api.view.lookup import Lookup
from mailstream.domain.status import EmailStatus

#: Emails that are looked at before others get their turn, and at most for one page. A page may so be short, or empty,
#: while ``has_more`` is true: the next one goes on from there.
_CHUNK, _MOST = 500, 100_000
_FAR = 2**62


async def page(lookup: Lookup, listing: Listing, tenant: str, query: ListQuery) -> EmailList:
    """Emails that fit the query, newest first. Raises Problem 400 for a cursor that is not ours."""
    place = _place_of(query.after) if query.after is not None else None
    since = microseconds(query.since) if query.since else -_FAR
    until = microseconds(query.until) if query.until else _FAR
    referred = None if query.reference is None else _referred(lookup, listing, tenant, query.reference, since, until)
    found: list[EmailAnswer] = []
    looked_at = 0
    while places := (
        listing.older(tenant, place, since, until, _CHUNK)
        if referred is None
        else [each for each in referred if place is None or each < place]
    ):
        for each in places:
            status = lookup.known(each.key)
            if status is not None and _fits(status, tenant, query):
                if len(found) == query.limit:
                    return _page(found, place)
                found.append(responses.email(status))
            place = each
        looked_at += len(places)
        if looked_at >= _MOST:
            return _page(found, place)
        await asyncio.sleep(0)
    return _page(found, None)


def _page(found: list[EmailAnswer], place: Place | None) -> EmailList:
    """``place``: where the next page begins."""
    return EmailList(data=found, has_more=place is not None, next=_cursor(place) if place else None)


def _referred(lookup: Lookup, listing: Listing, tenant: str, reference: str, since: int, until: int) -> list[Place]:
    """Few emails carry one reference: all are looked at. Newest first."""
    known = ((key, lookup.known(key)) for key in listing.with_reference(tenant, reference))
    places = (Place(microseconds(status.created_at), key) for key, status in known if status is not None)
    return sorted((each for each in places if since <= each.created < until), reverse=True)


def _fits(status: EmailStatus, tenant: str, query: ListQuery) -> bool:
    return (
        status.tenant == tenant
        and (query.status is None or status.status is query.status)
        and (query.tag is None or query.tag in status.tags)
        and (query.reference is None or status.reference == query.reference)
    )


def _cursor(place: Place) -> str:
    return base64.urlsafe_b64encode(struct.pack(">q", place.created) + place.key).decode().rstrip("=")


def _place_of(cursor: str) -> Place:
    try:
        data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        [created] = struct.unpack(">q", data[:8])
    except (ValueError, struct.error):
        raise Problem(Code.BAD_CURSOR, "Send `next` of the page before, unchanged.") from None
    return Place(created, data[8:])
