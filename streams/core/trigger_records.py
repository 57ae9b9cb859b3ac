"""What a ruling over a domain event puts into our topics: requests, and at most one dead letter."""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from mailstream import codec, topics
from mailstream.dead_letter import DeadLetter, Reason
from mailstream.email_id import partition_in
from mailstream.recipient import canonical
from mailstream.request import Control, EmailRequest
from mailstream.topics import MAX_REQUEST_BYTES, Topic
from streams.core.trigger import Concerned, Failure, Ruling, TooOld, Unconcerned, Unreadable
from streams.core.trigger_event import DomainEvent, Received

TRACE = "traceparent"


class Outgoing(NamedTuple):
    """A record for one of our topics. Partition -1: by its key."""

    topic: Topic
    value: bytes | None
    key: bytes | None
    partition: int
    headers: Sequence[tuple[str, bytes]]


class Result(StrEnum):
    """What became of a domain event, for the count."""

    ASKED = "asked"  #: at least one mail was asked for or cancelled, and nothing failed
    PASSED_OVER = "passed_over"  #: rules read its type, and none applied
    UNCONCERNED = "unconcerned"  #: no rule reads its type
    TOO_OLD = "too_old"  #: older than MAX_EVENT_AGE
    FAILED = "failed"  #: a rule gave no mail, or less than it should: a dead letter
    UNREADABLE = "unreadable"  #: no domain event: a dead letter


class Answer(NamedTuple):
    """What to publish for one event, in this order; the event is settled when all of it is in the log."""

    result: Result
    outgoing: tuple[Outgoing, ...] = ()
    dead_letter: DeadLetter | None = None


def answer(received: Received, ruling: Ruling, partitions: int) -> Answer:
    """The records that a ruling asks for. ``partitions``: of our topics."""
    match ruling:
        case Unconcerned():
            return Answer(Result.UNCONCERNED)
        case TooOld():
            return Answer(Result.TOO_OLD)
        case Unreadable(failure):
            return _rejected(Result.UNREADABLE, received, [], [failure])
        case Concerned(event, decisions):
            trace = _trace(received, event)
            outgoing: list[Outgoing] = []
            failures: list[Failure] = []
            for decision in decisions:
                failures += decision.failures
                for request in decision.requests:
                    record = request_record(request, partitions, trace)
                    if len(record.value or b"") > MAX_REQUEST_BYTES:
                        failures.append(Failure(Reason.TOO_LARGE, f"rule {decision.rule}: the mail is too large"))
                    else:
                        outgoing.append(record)
                outgoing += [control_record(control, partitions) for control in decision.controls]
            if failures:
                return _rejected(Result.FAILED, received, outgoing, failures)
            return Answer(Result.ASKED if outgoing else Result.PASSED_OVER, tuple(outgoing))


def request_record(request: EmailRequest, partitions: int, trace: list[codec.Header]) -> Outgoing:
    """The record of a request whose id follows from its recipient."""
    key = canonical(request.to.email).encode()
    partition = partition_in(request.id or "", partitions)
    return Outgoing(topics.REQUESTED, codec.encode(request), key, partition, [*codec.headers_of(request), *trace])


def control_record(control: Control, partitions: int) -> Outgoing:
    """The record of a word about an email. Raises BadEmailId."""
    partition = partition_in(control.id, partitions)
    return Outgoing(topics.REQUESTED, codec.encode(control), control.id.encode(), partition, codec.headers_of(control))


def _trace(received: Received, event: DomainEvent) -> list[codec.Header]:
    """The trace that the event belongs to goes on with its mail: as a header, or as the CloudEvents extension."""
    trace = received.headers.get(TRACE) or str(event.document.get(TRACE) or "").encode()
    return [(TRACE, trace)] if trace else []


def _rejected(result: Result, received: Received, outgoing: Sequence[Outgoing], failures: Sequence[Failure]) -> Answer:
    """One dead letter for an event, whatever number of its rules failed: a retry asks all of them, and ids are known."""
    detail = "; ".join(failure.detail for failure in failures[:10])
    dead_letter = DeadLetter(failures[0].reason, detail, received)
    # its own headers too: a binary CloudEvent is half in them
    headers = [*received.headers.items(), *dead_letter.headers()]
    letter = Outgoing(topics.REJECTED, dead_letter.value(), dead_letter.key(), -1, headers)
    return Answer(result, (*outgoing, letter), dead_letter)
