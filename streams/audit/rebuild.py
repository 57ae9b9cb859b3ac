"""Make the statuses of partitions anew whose records of ``email.status`` are gone, from the topics that decide.

First every email that ``email.requested`` still holds is born again, unless no worker has taken it; then the whole of
``email.attempts`` is folded; then come the provider's events. Only when all of a partition is known is it written, so
that no email is ever shown as waiting that was called long ago. No worker may run meanwhile.
"""

import math
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from confluent_kafka import KafkaException
from msgspec import structs

from mailstream.clock import Clock
from mailstream.domain import codec, senders, topics
from mailstream.domain.dead_letter import Reason, dead_letter_in
from mailstream.domain.email_id import partition_in
from mailstream.domain.errors import LogLost, NoKafka, WorkersRun
from mailstream.domain.record import Record
from mailstream.domain.request import OnAmbiguous
from mailstream.domain.status import EmailStatus, Status, merge
from mailstream.domain.topics import GROUP_WORKER, Topic
from mailstream.kafka.checkpoints import IN_REBUILD, SECONDS, Checkpoint, Checkpoints, why_lost
from mailstream.kafka.kafka import Kafka
from mailstream.kafka.reader import Reader, Span
from mailstream.kafka.record import record_of
from streams.audit.redrive import published
from streams.audit.replay import checkpoints_in, passed_by_workers, spans_of
from streams.core import births, fold, intake
from streams.core.caps_and_digests import CapAndDigestIndex
from streams.core.faults import Fault, Rejected, Rules
from streams.core.intake import Carried, Decision, New, ParsedRequest, Ruling
from streams.triggers.records import Outgoing

WRITER = "audit-rebuild"


@dataclass(slots=True, kw_only=True, eq=False)
class Partition:
    """What follows from the records of one partition. Give it those of each topic, in this order of the methods."""

    number: int
    rules: Rules
    on_ambiguous: OnAmbiguous
    unread_from: int | None  #: the first offset of ``email.requested`` that no worker has taken; None: not known
    attempts_since: float  #: seconds since 1970: when the oldest kept attempt was written, inf when all were deleted
    whole_since: float  #: what was asked for before may have lost its attempts to retention
    statuses: dict[str, EmailStatus] = field(default_factory=dict)
    forgotten: int = 0  #: requests that are older than what is known of attempts
    _refused: dict[int, Fault] = field(default_factory=dict)  #: by offset of the request
    _unread: set[str] = field(default_factory=set)
    _claims: dict[str, int] = field(default_factory=dict)  #: offset of the claim of each attempt that is not closed
    _groups: CapAndDigestIndex = field(default_factory=CapAndDigestIndex)

    def status(self, record: Record) -> None:
        """What is left of ``email.status``."""
        if record.value is None:
            self.statuses.pop((record.key or b"").decode("utf-8", "replace"), None)
        elif (status := codec.decoded(codec.decode_status, record.value)) is not None:
            self.statuses[status.id] = merge(self.statuses.get(status.id), status)

    def letter(self, record: Record, requested: str) -> None:
        """What was refused then stays refused: it may have been asked for again under another id."""
        letter = dead_letter_in(record)
        if letter is not None and letter.record.topic == requested:
            self._refused[letter.record.offset] = letter.reason, letter.detail

    def request(self, record: Record) -> None:
        """The email is what it was when its record was first taken.

        What templates and settings say of it now does not count: they may be others here. A record that no worker has
        taken is left to them, unless an attempt shows that one did; so is one with a fault when that is not known.
        """
        asked_at = record.timestamp_ms / 1000
        if asked_at < min(self.attempts_since, self.whole_since):
            self.forgotten += 1
            return
        refused = self._refused.get(record.offset)
        if refused is not None and refused[0] is Reason.ID_CONFLICT:
            return  # it was a repeat, and its email began with another record
        ruling: Ruling | Decision = intake.read(record, self.rules, asked_at)
        is_unread = refused is None and self.unread_from is not None and record.offset >= self.unread_from
        if isinstance(ruling, ParsedRequest):
            is_unread |= refused is None and self.unread_from is None and ruling.fault is not None
            ruling = intake.decide(replace(ruling, fault=refused), self.statuses.get(ruling.id))
        match ruling:
            case New(asked):
                born = births.born(asked, self._groups, on_ambiguous=self.on_ambiguous, writer=WRITER)
                self._groups.changed(None, born, self.number)
                self._be_born(born, is_unread=is_unread)
            case Carried(asked):
                self.statuses[asked.id] = births.with_copy(self.statuses[asked.id], record)
            case Rejected(id=str(email_id)) if email_id not in self.statuses and self._is_here(email_id):
                self._be_born(births.refused(ruling, email_id, WRITER), is_unread=is_unread)
            case _:
                pass

    def attempt(self, record: Record) -> None:
        """What was claimed and what came of it. An email without a status is older than statuses are kept."""
        attempt = codec.decoded(codec.decode_attempt, record.value)
        if attempt is None or (before := self.statuses.get(attempt.id)) is None:
            return
        self._unread.discard(attempt.id)
        before = fold.reborn(before, attempt)
        _, after = fold.attempted(before, attempt)
        if after is not before:
            self.statuses[after.id] = after
            self._claims[after.id] = record.offset
            self._close(after)

    def event(self, record: Record) -> None:
        """What the provider said."""
        event = codec.decoded(codec.decode_event, record.value)
        if event is not None and event.id is not None and (status := self.statuses.get(event.id)) is not None:
            self.statuses[status.id] = after = fold.happened(status, event)
            self._close(after)

    def finished(self) -> Iterator[EmailStatus]:
        """All that is shown. An email that waits, and whose attempts another hand may have deleted, is marked."""
        for status in self.statuses.values():
            if status.id not in self._unread:
                asked_at = (status.request_at or status.created_at).timestamp()
                is_untouched = not (status.final or status.attempt)
                is_marked = status.possible_duplicate or (is_untouched and asked_at < self.attempts_since)
                yield structs.replace(status, writer=WRITER, possible_duplicate=is_marked)

    def settled_to(self, end: int) -> int:
        """The offset of ``email.attempts``, which ends at ``end``, below which a worker needs to read nothing again."""
        return min(self._claims.values(), default=end)

    def _be_born(self, status: EmailStatus, *, is_unread: bool) -> None:
        self.statuses[status.id] = status
        if is_unread:
            self._unread.add(status.id)

    def _close(self, status: EmailStatus) -> None:
        if status.status is not Status.PROCESSING:
            self._claims.pop(status.id, None)

    def _is_here(self, email_id: str) -> bool:
        return partition_in(email_id, self.rules.partitions) == self.number


class Rebuild:
    """Looks for lost statuses, and makes them anew. It reads on the thread of its caller, who has nothing else to do."""

    def __init__(self, kafka: Kafka, reader: Reader, clock: Clock) -> None:
        self._kafka, self._reader, self._clock, self._settings = kafka, reader, clock, kafka.settings

    def lost(self) -> dict[int, str]:
        """The partitions whose statuses are gone, each with the reason. Raises NoKafka, LogLost."""
        attempts, marks, found = self._kafka.name_of(topics.ATTEMPTS), checkpoints_in(self._reader, self._settings), {}
        for partition in range(self._settings.partitions):
            end, mark = self._reader.span(attempts, partition).end, marks.get(partition)
            if mark is not None and mark.offset > end:
                raise LogLost(
                    f"{attempts}/{partition} ends at offset {end}, but was read up to {mark.offset} before. Who was "
                    "called meanwhile is unknown, so no status can be made from it. Nothing was changed. Restore it "
                    "with all its records first."
                )
            if why := why_lost(mark, self._reader.span(self._kafka.name_of(topics.STATUS), partition).end, end):
                found[partition] = why
        return found

    async def run(self, partitions: Iterable[int]) -> AsyncIterator[tuple[Partition, int]]:
        """Make the statuses of these partitions anew; tell each partition when its statuses are in the log, and how many.

        Until then its checkpoint says that it is being rebuilt. If this is stopped half way, workers still refuse to start.
        Raises WorkersRun, NoKafka, NotPublished, NotCaughtUp.
        """
        if count := self._kafka.members(GROUP_WORKER):
            raise WorkersRun(
                f"{count} workers are in their group. Nothing was changed. Stop all of them; one that was killed leaves the "
                f"group after SESSION_TIMEOUT ({self._settings.session_timeout:g} s)."
            )
        passed = passed_by_workers(self._reader, self._settings)
        try:
            whole_since = self._clock.now() - self._kafka.retention_seconds(topics.ATTEMPTS)
        except (KafkaException, TimeoutError):
            raise NoKafka("The brokers do not say how long they keep email.attempts. Nothing was changed.") from None
        checkpoints = Checkpoints(self._kafka)
        try:
            spans = {partition: spans_of(self._reader, self._settings, partition) for partition in partitions}
            self._reader.plan(span for of in spans.values() for span in of.values())
            await checkpoints.write_surely({partition: Checkpoint(0, WRITER, IN_REBUILD) for partition in spans})
            for number, of in spans.items():
                partition = Partition(
                    number=number,
                    rules=Rules(
                        self._settings.partitions,
                        self._settings.max_event_age,
                        senders.of_account(self._settings.sender, self._settings.senders_allowed),
                    ),
                    on_ambiguous=OnAmbiguous(self._settings.on_ambiguous),
                    unread_from=passed[number].requests if passed else None,
                    attempts_since=self._since(of[topics.ATTEMPTS]),
                    whole_since=whole_since,
                )
                self._read(partition, of)
                count = await self._publish(partition)
                end = self._reader.span(of[topics.STATUS].topic, number).end
                mark = Checkpoint(partition.settled_to(of[topics.ATTEMPTS].end), WRITER, end)
                await checkpoints.write_surely({number: mark})
                yield partition, count
        finally:
            await checkpoints.close()

    def _read(self, partition: Partition, spans: dict[Topic, Span]) -> None:
        takers: dict[Topic, Callable[[Record], None]] = {
            topics.STATUS: partition.status,
            topics.REJECTED: lambda record: partition.letter(record, spans[topics.REQUESTED].topic),
            topics.REQUESTED: partition.request,
            topics.ATTEMPTS: partition.attempt,
            topics.EVENTS: partition.event,
        }
        for topic, take in takers.items():
            for message in self._reader.records(spans[topic]):
                take(record_of(message))

    def _since(self, attempts: Span) -> float:
        """When the oldest kept attempt was written, in seconds since 1970. Infinite: all were deleted; 0: none ever was."""
        if attempts.start == 0:
            return 0.0
        return next((record.timestamp()[1] / 1000 for record in self._reader.records(attempts)), math.inf)

    async def _publish(self, partition: Partition) -> int:
        headers, count = codec.headers_of(EmailStatus), 0
        records = (
            Outgoing(topics.STATUS, codec.encode(each), each.id.encode(), partition.number, headers)
            for each in partition.finished()
        )
        async for _ in published(
            self._kafka.producer(failed=_raised, message_seconds=SECONDS), self._settings, records
        ):
            count += 1
        return count


def _raised(_: Exception) -> None:
    """What cannot be published raises where it is awaited."""
