"""What an endpoint is told, and what its answer means. No I/O."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec
from standardwebhooks import Webhook

from mailstream.domain.status import EmailStatus
from streams.webhooks.endpoints import Endpoint

#: Seconds before each further try; the last one repeats. The endpoint's later notices wait meanwhile: order counts.
DELAYS = (1.0, 5.0, 30.0, 120.0, 300.0)
#: An endpoint that is away is waited for so long, for each notice.
GIVE_UP_SECONDS = 86_400.0
#: A notice that the endpoint understands and refuses is tried so often: it must not hold back the others for a day.
REFUSED_TRIES = 5


class EndpointVerdict(StrEnum):
    """What an answer means for the notice."""

    TAKEN = "taken"
    AGAIN = "again"  #: the endpoint is away, busy, or wrongly set up
    REFUSED = "refused"  #: it does not want this one
    GONE = "gone"  #: it wants none any more


class Notice(msgspec.Struct, frozen=True):
    """One status change, ready to be told."""

    id: str  #: the same each time it is told: receivers drop repeats by it
    body: bytes


def notice_of(status: EmailStatus, endpoint: Endpoint) -> Notice | None:
    """What the endpoint is told of a status; None: nothing. No address: only the masked one."""
    if status.tenant != endpoint.tenant or status.status not in endpoint.statuses:
        return None
    data: dict[str, Any] = {
        "id": status.id,
        "status": status.status,
        "final": status.final,
        "to": status.to_masked,
        "reference": status.reference,
        "tags": status.tags,
        "attempts": status.attempt,
        "possible_duplicate": status.possible_duplicate,
        "provider": status.provider,
        "created_at": status.created_at,
        "updated_at": status.updated_at,
    }
    body = {"type": f"email.{status.status.lower()}", "timestamp": status.updated_at, "data": data}
    # the rank tells changes of one email apart, and is the same when a worker writes a status again
    return Notice(f"msg_{status.id}_{status.rank}", msgspec.json.encode(body))


def headers_of(notice: Notice, keys: Sequence[Webhook], now: datetime) -> dict[str, str]:
    """The headers of Standard Webhooks, signed by every secret of the endpoint. ``now`` is in UTC."""
    body = notice.body.decode()
    return {
        "content-type": "application/json",
        "webhook-id": notice.id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(key.sign(notice.id, now, body) for key in keys),
    }


def meaning_of(code: int | None) -> EndpointVerdict:
    """What an HTTP status means; None: there was no answer. A redirect is never followed."""
    match code:
        case None:
            return EndpointVerdict.AGAIN
        case 410:
            return EndpointVerdict.GONE
        case 400 | 405 | 406 | 409 | 413 | 415 | 422:
            return EndpointVerdict.REFUSED
        case _ if 200 <= code < 300:
            return EndpointVerdict.TAKEN
        case _:
            return EndpointVerdict.AGAIN


def wait_seconds(answer: EndpointVerdict, tries: int, waited_seconds: float) -> float | None:
    """How long to wait after so many tries; None: give the notice up."""
    if (answer is EndpointVerdict.REFUSED and tries >= REFUSED_TRIES) or waited_seconds >= GIVE_UP_SECONDS:
        return None
    return DELAYS[min(tries, len(DELAYS)) - 1]
