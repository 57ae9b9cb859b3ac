"""What a ruling over a domain event puts into our topics: requests, and at most one dead letter."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mailstream.domain import codec, topics
from mailstream.domain.dead_letter import DeadLetter
from mailstream.domain.email_id import partition_in
from mailstream.domain.recipient import canonical
from mailstream.domain.request import Control, EmailRequest
from mailstream.domain.topics import Topic
from streams.triggers.decide import Ruling
from streams.triggers.event import Received

TRACE = "traceparent"


class Outgoing(NamedTuple):
    """A record for one of our topics. Partition -1: by its key."""

    topic: Topic
    value: bytes | None
    key: bytes | None
    partition: int
    headers: Sequence[tuple[str, bytes]]


def outgoing(received: Received, ruling: Ruling, partitions: int) -> list[Outgoing]:
    """What to publish for one event, in this order; the event is settled when all of it is in the log.

    ``partitions``: of our topics.
    """
    # the trace that the event belongs to goes on with its mail: as a header, or as the CloudEvents extension
    trace = received.headers.get(TRACE) or str((ruling.event and ruling.event.document.get(TRACE)) or "").encode()
    records = asked(ruling, partitions, [(TRACE, trace)] if trace else ())
    if ruling.failures:  # one letter for all of them: a retry asks all rules again, and ids are known
        letter = DeadLetter(ruling.failures[0].reason, ruling.detail(), received)
        # with the headers of the event too: a binary CloudEvent is half in them
        headers = [*received.headers.items(), *letter.headers()]
        records.append(Outgoing(topics.REJECTED, letter.value(), letter.key(), -1, headers))
    return records


def asked(ruling: Ruling, partitions: int, extra: Iterable[codec.Header] = ()) -> list[Outgoing]:
    """The requests and cancels that the rules ask for, in their order."""
    records: list[Outgoing] = []
    for decision in ruling.decisions:
        records += [request_record(request, partitions, extra) for request in decision.requests]
        records += [control_record(control, partitions, extra) for control in decision.controls]
    return records


def request_record(request: EmailRequest, partitions: int, extra: Iterable[codec.Header] = ()) -> Outgoing:
    """The record of a request whose id follows from its recipient. ``extra``: headers behind its own."""
    key = canonical(request.to.email).encode()
    partition = partition_in(request.id or "", partitions)
    return Outgoing(topics.REQUESTED, codec.encode(request), key, partition, [*codec.headers_of(request), *extra])


def control_record(control: Control, partitions: int, extra: Iterable[codec.Header] = ()) -> Outgoing:
    """The record of a word about an email. Raises BadEmailId."""
    headers = [*codec.headers_of(control), *extra]
    partition = partition_in(control.id, partitions)
    return Outgoing(topics.REQUESTED, codec.encode(control), control.id.encode(), partition, headers)
