"""Records that could not be taken, and why. Nothing here asks for one again: that is ``mailstream redrive``."""

import asyncio
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from api.deps import PartsDep
from api.problems import Code, Problem, responses
from api.schemas import Moment, Page
from api.schemas import Query as QueryBody
from api.scopes import Admin
from mailstream.domain.dead_letter import Reason
from mailstream.domain.errors import NoKafka
from mailstream.kafka import dead_letter_reader
from mailstream.kafka.dead_letter_reader import Filter, Letter
from mailstream.kafka.reader import Reader
from mailstream.settings import Settings

router = APIRouter(tags=["dead letters"])

MOST_READ = 10_000  #: records that are read for one page
_one_at_a_time = asyncio.Semaphore()  # each opens a client of its own


class DeadLetterQuery(QueryBody):
    """Which dead letters to list."""

    reason: Reason | None = None
    topic: str | None = Field(None, max_length=249, description="the topic that the record came from")
    since: Moment | None = Field(None, description="rejected at or after this")
    until: Moment | None = Field(None, description="rejected before this")
    limit: int = Field(20, ge=1, le=100)
    after: str | None = Field(
        None, max_length=32, pattern=r"^[0-9]{1,9}/[0-9]{1,18}$", description="`next` of the page before"
    )


class DeadLetterOrigin(BaseModel):
    """Where a record stood that could not be taken."""

    topic: str
    partition: int
    offset: int


class DeadLetterAnswer(BaseModel):
    """A record that could not be taken. Its key and bytes are addresses: `mailstream dead-letters show` has them."""

    place: str = Field(description="partition/offset in `email.rejected`")
    at: datetime
    reason: Reason
    detail: str
    origin: DeadLetterOrigin


class DeadLetterList(Page[DeadLetterAnswer]):
    """A page, partition by partition in log order. It may be short, or empty, while `has_more`."""


@router.get("/v1/dead-letters", response_model=DeadLetterList, responses=responses(401, 403, 422, 429, 503))
async def see_many(parts: PartsDep, _: Admin, query: Annotated[DeadLetterQuery, Query()]) -> Any:
    """The records that could not be taken, of all tenants: who sent one of these can often not be told."""
    try:
        async with _one_at_a_time:
            found, rest = await asyncio.to_thread(_page, parts.settings, query)
    except NoKafka:
        raise Problem(Code.NOT_CAUGHT_UP, "Kafka does not answer.") from None
    after = None if rest is None else f"{rest[0]}/{rest[1]}"
    shown = [
        {"place": each.place, "at": each.at, "reason": letter.reason, "detail": letter.detail, "origin": letter.record}
        for each in found
        for letter in (each.dead_letter,)
    ]
    return {"data": shown, "has_more": after is not None, "next": after}


def _page(settings: Settings, query: DeadLetterQuery) -> tuple[list[Letter], tuple[int, int] | None]:
    wanted = Filter(
        reasons=frozenset([query.reason] if query.reason else ()),
        topics=frozenset([query.topic] if query.topic else ()),
        since=query.since,
        until=query.until,
    )
    partition, _, offset = (query.after or "0/0").partition("/")
    with Reader(settings) as reader:
        return dead_letter_reader.page(
            reader, settings, wanted, begin=(int(partition), int(offset)), limit=query.limit, most=MOST_READ
        )
