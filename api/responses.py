"""From a status record to what a caller may see of it."""

from collections.abc import Sequence

import msgspec

from api.batch import Accepted
from api.problems import MistakeBody, Problem
from api.schemas import (
    MESSAGE,
    BatchMode,
    BatchReceipt,
    BatchResult,
    EmailAnswer,
    ProviderAnswer,
    TimelineEntry,
)
from api.view.bodies import Shown
from api.view.queue import Turn
from mailstream.clock import moment
from mailstream.domain.status import EmailStatus, Fact, Status


def receipt(email_id: str, reference: str | None) -> bytes:
    """The answer to an accepted email, the same each time it is asked for: the JSON of a ``Receipt``.

    Written without that model, which costs ten times as much; a test compares the two.
    """
    self = f"/v1/emails/{email_id}"
    links = {"self": self, "events": f"{self}/events"}
    return msgspec.json.encode(
        {"id": email_id, "status": Status.QUEUED, "message": MESSAGE, "reference": reference, "links": links}
    )


def batch(mode: BatchMode, results: Sequence[Accepted | Problem]) -> BatchReceipt:
    """The results of a batch, in order."""
    shown = [_result(index, result) for index, result in enumerate(results)]
    rejected = sum(isinstance(result, Problem) for result in results)
    return BatchReceipt(mode=mode, accepted=len(results) - rejected, rejected=rejected, results=shown)


def _result(index: int, result: Accepted | Problem) -> BatchResult:
    if isinstance(result, Problem):
        errors = [MistakeBody(**each._asdict()) for each in result.errors]
        return BatchResult(index=index, code=result.code.word, detail=result.detail, errors=errors)
    request = result.request
    return BatchResult(index=index, id=request.id, status=Status.QUEUED, reference=request.reference)


def email(status: EmailStatus, turn: Turn | None = None, shown: Shown | None = None) -> EmailAnswer:
    """Where an email stands. ``shown``: the whole address and the subject, for whom that may see them."""
    provider = status.provider
    return EmailAnswer(
        id=status.id,
        status=status.status,
        final=status.final,
        to=shown.to if shown else status.to_masked,
        subject=shown.subject if shown else None,
        reference=status.reference,
        tags=list(status.tags),
        lane=status.lane,
        created_at=status.created_at,
        updated_at=status.updated_at,
        send_at=None if status.final else status.due_at,
        attempts=status.attempt,
        provider=provider
        and ProviderAnswer(message_id=provider.message_id, code=provider.code, reason=provider.reason),
        possible_duplicate=status.possible_duplicate,
        test=status.test,
        position=turn.position if turn else None,
        estimated_at=moment(turn.starts_at) if turn else None,
        timeline=[entry(fact) for fact in status.timeline],
    )


def entry(fact: Fact, *, is_final: bool | None = None) -> TimelineEntry:
    """One fact of a timeline."""
    return TimelineEntry(at=fact.at, status=fact.status, detail=fact.detail or fact.what, final=is_final)
