"""All that the topics say about one email, and the status that follows from it (pure).

Nothing here asks what was published: that is what the fold is held against.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from mailstream.clock import moment
from mailstream.domain.attempt import AttemptRecord, ClaimRecord, Outcome, OutcomeRecord
from mailstream.domain.dead_letter import Reason
from mailstream.domain.email_id import hash_in, partition_in
from mailstream.domain.event import ProviderEvent
from mailstream.domain.record import Record
from mailstream.domain.request import Address, EmailRequest, OnAmbiguous
from mailstream.domain.status import Coordinates, EmailStatus
from streams.audit.passed import Passed
from streams.core import fold, intake
from streams.core.claims import Verdict
from streams.core.faults import Rejected, Rules
from streams.core.intake import Controlled, ParsedRequest
from streams.core.unfold import Unfold

WRITER = "audit"


class Place(NamedTuple):
    """Where a record stands: offset in its topic, and the broker's time in seconds since 1970."""

    offset: int
    at: float


@dataclass(slots=True)
class EmailHistory:
    """What was read about one email, each list in log order."""

    id: str
    asked: list[Place] = field(default_factory=list)
    rejected: str | None = None  #: the reason when all records that ask for it, and were taken, are dead letters
    attempts: list[tuple[Place, AttemptRecord]] = field(default_factory=list)
    events: list[tuple[Place, ProviderEvent]] = field(default_factory=list)
    controls: list[Place] = field(default_factory=list)  #: those that a worker has passed, and took
    published: EmailStatus | None = None  #: merged by rank, as a worker does that loads the topic
    last_published: EmailStatus | None = None  #: the last record of its key
    last_offset: int = 0  #: of that record
    is_forgotten: bool = False  #: its status was kept long enough, and a tombstone followed
    newest_at: float = 0.0  #: of any record about it

    def touch(self, at: float) -> None:
        """A record about the email is as young as this."""
        self.newest_at = max(self.newest_at, at)

    def is_whole(self) -> bool:
        """Whether its attempts are there from the first one on; the log forgets after its retention."""
        claims = [record.attempt for _, record in self.attempts if isinstance(record, ClaimRecord)]
        return not self.attempts or (bool(claims) and min(claims) == 1)

    def has_beginning(self) -> bool:
        """Whether the topics still say how it began. A repeat that was refused as one tells of an older request."""
        return bool(self.attempts) or (bool(self.asked) and self.rejected != Reason.ID_CONFLICT)


@dataclass(frozen=True, slots=True)
class Fold:
    """What follows from the log, and what is odd in it."""

    status: EmailStatus
    accepted: tuple[OutcomeRecord, ...] = ()  #: outcomes of calls that the provider took
    marked: frozenset[str] = frozenset()  #: nonces of claims with possible_duplicate
    without_say: tuple[OutcomeRecord, ...] = ()  #: outcomes of calls whose claim did not win
    names_two_messages: bool = False  #: the provider's events name two mails


class Role(Enum):
    """What a record of ``email.requested`` is to an email; the value is what a report calls it while it waits."""

    ASKS = "requests"
    CONTROLS = "controls"
    PROMISES = "batches"  #: a batch names it; a record of its own follows


def emails_in(received: Record, partitions: int) -> Iterator[tuple[str, Role]]:
    """Each email that a record is about. A record in the wrong partition asks for nothing: its copy does."""
    # nothing is too old: the audit asks what a record is, not whether it may be
    match intake.read(received, Rules(partitions, float("inf"), frozenset()), 0.0):
        case ParsedRequest(id=email_id):
            yield email_id, Role.ASKS
        case Rejected(id=str(email_id)) if partition_in(email_id, partitions) == received.partition:
            yield email_id, Role.ASKS
        case Controlled(control=control):
            yield control.id, Role.CONTROLS
        case Unfold(items=items):
            yield from ((item.id, Role.PROMISES) for item in items if item.id is not None)


def fold_of(life: EmailHistory) -> Fold | None:
    """Tell the email's story again. None when the topics do not have the beginning of it any more."""
    if not life.has_beginning():
        return None
    status = _beginning(life)
    accepted: dict[str, OutcomeRecord] = {}  # by nonce: what was not acknowledged is appended again
    answered, names_two = [], False
    winners = set()
    former: set[str] = set()  #: nonces of a former life of the id
    for record in _in_order(life.attempts, life.events):
        if isinstance(record, ProviderEvent):
            names_two = names_two or fold.is_duplicate_proven(status, record)
            status = fold.happened(status, record)
            continue
        verdict, status = fold.attempted(status, record)
        if isinstance(record, ClaimRecord) and verdict is Verdict.WON:
            winners.add((record.attempt, record.nonce))
        if verdict is Verdict.FORMER:
            former.add(record.nonce)
        if isinstance(record, OutcomeRecord) and record.nonce not in former:
            answered.append(record)
            if record.result is Outcome.ACCEPTED:
                accepted.setdefault(record.nonce, record)
    marked = frozenset(r.nonce for _, r in life.attempts if isinstance(r, ClaimRecord) and r.possible_duplicate)
    without_say = [record for record in answered if (record.attempt, record.nonce) not in winners]
    if without_say and life.events:  # topics have no order between them: the worker may have claimed before it heard
        winners = _winners(life)
        without_say = [record for record in without_say if (record.attempt, record.nonce) not in winners]
    return Fold(status, tuple(accepted.values()), marked, tuple(without_say), names_two)


def statuses_before(life: EmailHistory, passed: Passed) -> Iterator[EmailStatus]:
    """Each status that the email may rightly show while a worker has taken only a part of what waits for it.

    All that workers have passed is in each of them. Of what stands behind, each topic is taken in its own order.
    """
    waiting = [record for place, record in life.attempts if place.offset >= passed.attempts]
    unheard = [event for place, event in life.events if place.offset >= passed.events]
    status = _beginning(life)
    for record in _in_order(
        life.attempts[: len(life.attempts) - len(waiting)], life.events[: len(life.events) - len(unheard)]
    ):
        status = _after(status, record)
    for event in (None, *unheard):
        status = status if event is None else fold.happened(status, event)
        yield (shown := status)
        for attempt in waiting:
            yield (shown := _after(shown, attempt))


def _after(status: EmailStatus, record: AttemptRecord | ProviderEvent) -> EmailStatus:
    return fold.happened(status, record) if isinstance(record, ProviderEvent) else fold.attempted(status, record)[1]


def _winners(life: EmailHistory) -> set[tuple[int, str]]:
    """The claims that win by the order of ``email.attempts`` alone."""
    status, winners = _beginning(life), set()
    for _, record in life.attempts:
        verdict, status = fold.attempted(status, record)
        if isinstance(record, ClaimRecord) and verdict is Verdict.WON:
            winners.add((record.attempt, record.nonce))
    return winners


def _in_order(
    attempts: Sequence[tuple[Place, AttemptRecord]], events: Sequence[tuple[Place, ProviderEvent]]
) -> Iterator[AttemptRecord | ProviderEvent]:
    """Attempts and events by the broker's time; each topic's own order stands."""
    attempt = event = 0
    while attempt < len(attempts) or event < len(events):
        if event == len(events) or (attempt < len(attempts) and attempts[attempt][0].at <= events[event][0].at):
            yield attempts[attempt][1]
            attempt += 1
        else:
            yield events[event][1]
            event += 1


def _beginning(life: EmailHistory) -> EmailStatus:
    recipient = f"{hash_in(life.id):08x}"
    first = life.asked[0] if life.asked else life.attempts[0][0]
    place, at = Coordinates(0, first.offset), moment(first.at)
    if life.rejected is not None and not life.attempts:  # what was claimed was taken: the refused record was a repeat
        return fold.rejected(
            email_id=life.id,
            recipient=recipient,
            place=place,
            at=at,
            reason=life.rejected,
            detail="",
            writer=WRITER,
        )
    if life.published is not None:  # which record began it: others repeat it, or began a life that was forgotten
        place = Coordinates(0, life.published.order)
    return fold.queued(
        EmailRequest(to=Address("unknown@invalid")),
        email_id=life.id,
        recipient=recipient,
        place=place,
        at=at,
        on_ambiguous=OnAmbiguous.HOLD,
        writer=WRITER,
    )
