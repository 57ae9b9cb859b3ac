"""Records that could not be taken, and why. Nothing here asks for one again: that is ``mailstream redrive``."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query

from api.deps import Admin, PartsDep
from api.problems import Code, Problem, responses
from api.schemas import DeadLetterAnswer, DeadLetterList, DeadLetterOrigin, DeadLetterQuery
from mailstream.domain.errors import NoKafka
from mailstream.kafka import dead_letters
from mailstream.kafka.dead_letters import Filter, Letter
from mailstream.kafka.reader import Reader
from mailstream.settings import Settings

router = APIRouter(tags=["dead letters"])

MOST_READ = 10_000  #: records that are read for one page
_one_at_a_time = asyncio.Semaphore()  # each opens a client of its own


@router.get("/v1/dead-letters", responses=responses(401, 403, 422, 429, 503))
async def see_many(parts: PartsDep, _: Admin, query: Annotated[DeadLetterQuery, Query()]) -> DeadLetterList:
    """The records that could not be taken, of all tenants: who sent one of these can often not be told."""
    try:
        async with _one_at_a_time:
            found, rest = await asyncio.to_thread(_page, parts.settings, query)
    except NoKafka:
        raise Problem(Code.NOT_CAUGHT_UP, "Kafka does not answer.") from None
    after = None if rest is None else f"{rest[0]}/{rest[1]}"
    return DeadLetterList(data=[_answer(letter) for letter in found], has_more=after is not None, next=after)


def _page(settings: Settings, query: DeadLetterQuery) -> tuple[list[Letter], tuple[int, int] | None]:
    wanted = Filter(
        reasons=frozenset([query.reason] if query.reason else ()),
        topics=frozenset([query.topic] if query.topic else ()),
        since=query.since,
        until=query.until,
    )
    partition, _, offset = (query.after or "0/0").partition("/")
    with Reader(settings) as reader:
        return dead_letters.page(
            reader, settings, wanted, begin=(int(partition), int(offset)), limit=query.limit, most=MOST_READ
        )


def _answer(letter: Letter) -> DeadLetterAnswer:
    found = letter.dead_letter
    return DeadLetterAnswer(
        place=letter.place,
        at=letter.at,
        reason=found.reason,
        detail=found.detail,
        origin=DeadLetterOrigin(topic=found.record.topic, partition=found.record.partition, offset=found.record.offset),
    )
