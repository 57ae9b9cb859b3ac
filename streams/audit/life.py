"""All that the topics say about one email, and the status that follows from it (pure).

Nothing here asks what was published: that is what the fold is held against.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from mailstream import codec
from mailstream.attempt import AttemptRecord, ClaimRecord, Outcome, OutcomeRecord
from mailstream.clock import moment
from mailstream.email_id import hash_in, partition_in
from mailstream.event import ProviderEvent
from mailstream.request import Address, EmailRequest, OnAmbiguous
from mailstream.status import Coordinates, EmailStatus
from streams.core import fold, intake
from streams.core.claims import Verdict
from streams.core.intake import Asked, Controlled, Received, Rejected, Rules
from streams.core.unfold import Unfold

WRITER = "audit"


class Place(NamedTuple):
    """Where a record stands: offset in its topic, and the broker's time in seconds since 1970."""

    offset: int
    at: float


@dataclass(slots=True)
class Life:
    """What was read about one email, each list in log order."""

    id: str
    asked: list[Place] = field(default_factory=list)
    rejected: str | None = None  #: the reason when its first record is a dead letter
    attempts: list[tuple[Place, AttemptRecord]] = field(default_factory=list)
    events: list[tuple[Place, ProviderEvent]] = field(default_factory=list)
    published: EmailStatus | None = None  #: merged by rank, as whoever loads the topic does
    last_published: EmailStatus | None = None  #: the last record of its key
    is_forgotten: bool = False  #: its status was kept long enough, and a tombstone followed
    newest_at: float = 0.0  #: of any record about it

    def touch(self, at: float) -> None:
        """A record about the email is as young as this."""
        self.newest_at = max(self.newest_at, at)

    def is_whole(self) -> bool:
        """Whether its attempts are there from the first one on; the log forgets after its retention."""
        claims = [record.attempt for _, record in self.attempts if isinstance(record, ClaimRecord)]
        return not self.attempts or (bool(claims) and min(claims) == 1)


@dataclass(frozen=True, slots=True)
class Fold:
    """What follows from the log, and what is odd in it."""

    status: EmailStatus
    accepted: tuple[OutcomeRecord, ...] = ()  #: outcomes of calls that the provider took
    marked: frozenset[str] = frozenset()  #: nonces of claims with possible_duplicate
    without_say: tuple[OutcomeRecord, ...] = ()  #: outcomes by somebody whose claim did not win
    names_two_messages: bool = False  #: the provider's events name two mails


class Role(Enum):
    """What a record of ``email.requested`` is to an email."""

    ASKS = "asks"
    CONTROLS = "controls"
    PROMISES = "promises"  #: a batch names it; a record of its own follows


def emails_in(received: Received, partitions: int) -> Iterator[tuple[str, Role]]:
    """Each email that a record is about. A record in the wrong partition asks for nothing: its copy does."""
    # nothing is too old and no sender is refused: the audit asks what a record is, not whether it may be
    match intake.read(received, Rules(partitions, float("inf"), frozenset()), 0.0):
        case Asked(id=email_id):
            yield email_id, Role.ASKS
        case Rejected(id=str(email_id)) if partition_in(email_id, partitions) == received.partition:
            yield email_id, Role.ASKS
        case Controlled(control=control):
            yield control.id, Role.CONTROLS
        case Unfold(items=items):
            yield from ((item.id, Role.PROMISES) for item in items if item.id is not None)


def fold_of(life: Life) -> Fold | None:
    """Tell the email's story again. None when the topics do not have the beginning of it any more."""
    if not life.asked and not life.attempts:
        return None
    status = _beginning(life)
    accepted, without_say, names_two = [], [], False
    for record in _in_order(life):
        if isinstance(record, ProviderEvent):
            names_two = names_two or fold.is_duplicate_proven(status, record)
            status = fold.happened(status, record)
            continue
        verdict, status = fold.attempted(status, record)
        if isinstance(record, OutcomeRecord):
            if record.result is Outcome.ACCEPTED:
                accepted.append(record)
            if verdict is Verdict.VOID:
                without_say.append(record)
    marked = frozenset(r.nonce for _, r in life.attempts if isinstance(r, ClaimRecord) and r.possible_duplicate)
    return Fold(status, tuple(accepted), marked, tuple(without_say), names_two)


def _in_order(life: Life) -> Iterator[AttemptRecord | ProviderEvent]:
    """Attempts and events by the broker's time; each topic's own order stands."""
    attempts, events = list(life.attempts), list(life.events)
    while attempts or events:
        if not events or (attempts and attempts[0][0].at <= events[0][0].at):
            yield attempts.pop(0)[1]
        else:
            yield events.pop(0)[1]


def _beginning(life: Life) -> EmailStatus:
    recipient = f"{hash_in(life.id):08x}"
    first = life.asked[0] if life.asked else life.attempts[0][0]
    place, at = Coordinates(0, first.offset), moment(first.at)
    if life.rejected is not None:
        return fold.rejected(
            email_id=life.id,
            recipient=recipient,
            place=place,
            at=at,
            reason=life.rejected,
            detail="",
            writer=WRITER,
        )
    return fold.queued(
        EmailRequest(to=Address("unknown@invalid")),
        email_id=life.id,
        recipient=recipient,
        place=place,
        at=at,
        on_ambiguous=OnAmbiguous.HOLD,
        writer=WRITER,
    )


def decoded_attempt(value: bytes | None) -> AttemptRecord | None:
    """A record of ``email.attempts``; None when nobody can read it (the worker passes it over, too)."""
    try:
        return codec.decode_attempt(value or b"")
    except codec.Undecodable:
        return None


def decoded_event(value: bytes | None) -> ProviderEvent | None:
    """A record of ``email.events``; None when nobody can read it."""
    try:
        return codec.decode_event(value or b"")
    except codec.Undecodable:
        return None


def decoded_status(value: bytes | None) -> EmailStatus | None:
    """A record of ``email.status``; None when nobody can read it."""
    try:
        return codec.decode_status(value or b"")
    except codec.Undecodable:
        return None
