"""I6: emails of one recipient and lane are first called in the order in which they were asked for, once both are due."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

from mailstream.domain.attempt import Instead, Outcome, OutcomeRecord
from mailstream.domain.recipient import canonical
from mailstream.domain.request import Batch, EmailRequest, Lane
from tests.checker.claims import Life
from tests.checker.said import Apart, Finding, Said, Unjudged
from tests.support.history import History

#: An email is handed out for its claim so long before its call, at most, on a busy machine.
HANDED_OUT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Waited:
    """An email in the queue of its recipient and lane."""

    id: str
    offset: int
    first_call: float
    claimed_at: float  #: the claim of that call
    send_at: float
    life: Life


def i6_order_per_recipient(history: History) -> Said:
    """An inversion is excused only by a retry, a hold or a new time of one of the two, between the two calls."""
    queues: dict[tuple[str, Lane], list[_Waited]] = defaultdict(list)
    for id_, calls in history.real_calls.items():
        own = [(r, request) for r, request in history.requests.get(id_, ()) if not isinstance(r.value, Batch)]
        if not own:
            yield Unjudged("I6", id_, "its own request is not in the log, so its place in the order is unknown")
            continue
        record, request = own[0]
        if request.digest is not None:
            yield Unjudged("I6", id_, "when a digest closes is not said by its request")
            continue
        life = history.lives.get(id_, Life())
        claim = life.by_nonce(calls[0].nonce)
        claimed = claim.at if claim is not None else calls[0].at
        email = _Waited(id_, record.offset, calls[0].at, claimed, _send_at(request), life)
        queues[canonical(request.to.email), request.lane].append(email)
    for queue in queues.values():
        yield from _inversions(sorted(queue, key=lambda email: email.offset))


def _send_at(request: EmailRequest) -> float:
    return request.send_at.timestamp() if request.send_at is not None else -inf


def _inversions(queue: list[_Waited]) -> Iterator[Finding]:
    overtaker: _Waited | None = None  # of those asked for later, the one that was called first
    for email in reversed(queue):
        if (
            overtaker is not None
            and overtaker.first_call < email.first_call
            and _due_at(email, overtaker.claimed_at) <= overtaker.claimed_at
        ):
            what = f"was first called after {overtaker.id}, which was asked for later"
            excuse = _excuse(email, overtaker)
            yield Apart("I6", email.id, f"{what}: {excuse}") if excuse else Finding("I6", email.id, what)
        if overtaker is None or email.first_call < overtaker.first_call:
            overtaker = email


def _due_at(email: _Waited, at: float) -> float:
    """When it was due, as things stood at that moment."""
    due = email.send_at
    for change in email.life.ended(Instead.RESCHEDULED):
        if change.at <= at:
            due = change.claim.not_before.timestamp() if change.claim.not_before else -inf
    return due


def _excuse(email: _Waited, overtaker: _Waited) -> str | None:
    """What kept this one back while the other one was handed out."""
    handed_out = overtaker.claimed_at
    for attempt in email.life.calls:
        if attempt.at > overtaker.first_call:
            break
        if attempt.is_open:  # until something followed it
            until = min((a.at for a in email.life.won if a.claim.attempt > attempt.claim.attempt), default=inf)
            why = "it was in doubt"
        elif attempt.result in (Outcome.NOT_ACCEPTED, Outcome.ACCOUNT_FAULT):
            assert attempt.word_record is not None
            retry_at = attempt.word.retry_at if isinstance(attempt.word, OutcomeRecord) else None
            until = max(attempt.word_record.at, retry_at.timestamp() if retry_at is not None else -inf)
            why = "it waited for its retry"
        elif attempt.held is not None and attempt.word_record is not None:
            until, why = attempt.word_record.at, "it was in doubt"
        else:
            continue
        if attempt.at <= overtaker.first_call and handed_out <= until + HANDED_OUT_SECONDS:
            return why
    changes = email.life.ended(Instead.RESCHEDULED)
    if any(abs(change.at - handed_out) <= HANDED_OUT_SECONDS for change in changes):
        return "it got another time just then"
    return None
