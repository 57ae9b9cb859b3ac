"""SendGrid's signed event webhook: 204 once every event is in Kafka."""

import structlog
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.deps import PartsDep
from api.inbound.signature import SIGNATURE_HEADER, TIMESTAMP_HEADER, NotSigned, Replays
from api.problems import Code, Problem, responses

router = APIRouter(tags=["events"])
_log = structlog.get_logger(__name__)
#: An older post is counted: SendGrid repeats for 24 h, and whether it signs anew is not documented.
LATE_SECONDS = 300


@router.post(
    "/v1/events/sendgrid",
    status_code=204,
    response_class=Response,
    responses=responses(400, 401, 408, 413, 503),
    openapi_extra={  # what SendGrid sends: a 401 without the headers, and no model for the elements
        "parameters": [
            {"name": name, "in": "header", "required": True, "schema": {"type": "string"}}
            for name in (SIGNATURE_HEADER, TIMESTAMP_HEADER)
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"type": "array", "items": {"type": "object"}}}},
        },
    },
)
async def take(request: Request, parts: PartsDep) -> Response:
    """Take events. A bad element becomes a dead letter and costs the others nothing; a bad signature costs all."""
    body = await request.body()
    timestamp = request.headers.get(TIMESTAMP_HEADER)
    try:
        age = parts.webhook.verifier.verify(
            body, request.headers.get(SIGNATURE_HEADER), timestamp, now=parts.clock.now()
        )
    except NotSigned:
        parts.metrics.webhook_posts.labels("refused").inc()
        _log.warning("webhook.refused", bytes=len(body))  # each is repeated for 24 h: alarm on it
        raise Problem(Code.BAD_SIGNATURE, "Neither the keys that are set here nor the time fit this post.") from None
    replay = Replays.key_of(body, timestamp or "")
    if replay in parts.webhook.replays:
        parts.metrics.webhook_posts.labels("repeated").inc()
        return Response(status_code=204)
    await parts.webhook.take(body)
    parts.webhook.replays.add(replay)
    parts.metrics.webhook_posts.labels("late" if age > LATE_SECONDS else "taken").inc()
    return Response(status_code=204)
