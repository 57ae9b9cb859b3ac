"""The queue: what waits, how fast it goes, when it is drained. Of the account as a whole, as the gap is."""

from fastapi import APIRouter
from starlette.responses import Response

from api.deps import PartsDep
from api.problems import responses
from api.scopes import Reader
from api.sse import EventStream, QueueEvents
from api.view.queue import QueueAnswer

router = APIRouter(tags=["queue"], responses=responses(401, 403, 429, 503))


@router.get("/v1/queue")
async def see(parts: PartsDep, _: Reader) -> QueueAnswer:
    """What waits in each lane and partition, the rate, the next turn, and when all should have started."""
    await parts.lookup.barrier()
    return parts.queue.state()


@router.get("/v1/queue/stream", status_code=200, response_class=EventStream, response_description="Server-sent events")
async def follow(parts: PartsDep, caller: Reader) -> Response:
    """The same as events `queue`: when something has changed, at most once a second."""
    parts.lookup.require_loaded()
    return EventStream(QueueEvents(parts.queue), parts.streams, caller)
