"""The queue: what waits, how fast it goes, when it is drained. Of the account as a whole, as the gap is."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api import answers
from api.auth import KEY, caller_of
from api.event_stream import EventStream
from api.keys import Scope
from api.parts import parts_of
from api.plain_route import PlainRoute
from api.problems import responses
from api.queue_events import QueueEvents
from api.route_docs import EVENTS
from api.schemas import QueueAnswer

router = APIRouter(tags=["queue"], route_class=PlainRoute)


@router.get(
    "/v1/queue",
    response_model=QueueAnswer,
    dependencies=[KEY],
    responses=responses(401, 403, 429, 503),
    openapi_extra={"x-scope": Scope.READ},
)
async def see(request: Request) -> Response:
    """What waits in each lane and partition, the rate, the next turn, and when all should have started."""
    parts = parts_of(request)
    caller_of(request, Scope.READ)
    await parts.lookup.barrier()
    return Response(answers.queue(parts.queue.state()).model_dump_json(), media_type="application/json")


@router.get(
    "/v1/queue/stream",
    dependencies=[KEY],
    responses=responses(401, 403, 429, 503) | EVENTS,
    openapi_extra={"x-scope": Scope.READ},
)
async def follow(request: Request) -> Response:
    """The same as events `queue`: when something has changed, at most once a second."""
    parts, caller = parts_of(request), caller_of(request, Scope.READ)
    parts.lookup.require_loaded()
    return EventStream(QueueEvents(parts.queue), parts.streams, caller)
