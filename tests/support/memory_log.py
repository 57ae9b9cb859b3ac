"""A log in memory: topics with partitions, offsets and the brokers' stamps. The test says how each topic takes records.

What reads and writes it stands beside it: ``memory_publisher``, ``memory_tail``, ``memory_reads``; ``memory_kafka``
opens them. That publisher and tail do what the real ones do is shown in ``tests/contract``.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Message, TopicPartition

from mailstream.clock import Clock
from mailstream.domain.errors import NotPublished

Place = tuple[str, int]  #: topic and partition
Headers = Sequence[tuple[str, bytes]]
#: Told once what became of a record: an error, or the record as it stands in the log.
Told = Callable[[NotPublished | None, Message | None], None]


class Writes(Enum):
    """What becomes of records that are handed over."""

    TAKEN = auto()  #: they are in the log and acknowledged
    UNHEARD = auto()  #: they are in the log, and nobody hears of it until the topic is treated otherwise
    WAITING = auto()  #: they are not in the log, and wait until the topic is treated otherwise
    REFUSED = auto()  #: they are not in the log, and their writer is told that they may not be
    LOST = auto()  #: they are in the log, and their writer is told that they may not be


@dataclass(slots=True, eq=False)
class Write:
    """One record on its way."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    told: Told
    message: Message | None = None  #: as it stands in the log, once it does


class MemoryLog:
    """All partitions exist, and are empty."""

    def __init__(self, clock: Clock, *, partitions: int) -> None:
        self.clock, self.partitions = clock, partitions
        self.silent: set[str] = (
            set()
        )  #: topics of which nothing is fetched at the moment; how far they go is told all the same
        self.is_silent = False  #: the brokers answer nobody
        self.listeners: list[Callable[[], None]] = []  #: called when there may be more to read
        self.members = 0  #: processes in the group of the workers, as far as the brokers tell
        self.groups: dict[str, dict[Place, TopicPartition]] = {}  #: what each group has committed
        self._records: dict[Place, list[Message]] = defaultdict(list)
        self._firsts: dict[Place, int] = defaultdict(int)
        self._all = Writes.TAKEN
        self._treated: dict[str, Writes] = {}
        self._on_their_way: list[Write] = []

    # -- what stands in it --------------------------------------------------------------------------------

    def append(
        self, topic: str, partition: int, value: bytes | None, *, key: bytes | None = None, headers: Headers = ()
    ) -> Message:
        """Another process appends a record, however the topic treats ours."""
        records = self._records[topic, partition]
        stamp = TIMESTAMP_LOG_APPEND_TIME, int(self.clock.now() * 1000)
        offset = self.end(topic, partition)
        message = Message(topic, partition, offset, key, value, list(headers), timestamp=stamp)
        records.append(message)
        self._tell_listeners()
        return message

    def records(self, topic: str, partition: int) -> list[Message]:
        """What is kept of a partition, in log order."""
        return self._records[topic, partition]

    def read(self, topic: str, partition: int, start: int, most: int) -> list[Message]:
        """At most so many records from ``start`` on, as far as they are kept."""
        at = max(0, start - self.first(topic, partition))
        return self._records[topic, partition][at : at + most]

    def first(self, topic: str, partition: int) -> int:
        """The offset of the first record that is kept."""
        return self._firsts[topic, partition]

    def end(self, topic: str, partition: int) -> int:
        """The offset behind the last record."""
        return self.first(topic, partition) + len(self._records[topic, partition])

    def delete(self, topic: str, partition: int, before: int) -> None:
        """Delete the records before an offset, as retention does."""
        del self._records[topic, partition][: before - self.first(topic, partition)]
        self._firsts[topic, partition] = before

    def make_anew(self, topic: str) -> None:
        """Delete the topic and create it again."""
        for partition in range(self.partitions):
            self._records[topic, partition], self._firsts[topic, partition] = [], 0

    # -- how it treats those who write and read -----------------------------------------------------------

    def treat(self, topic: str, how: Writes) -> None:
        """Treat records of a topic like that from now on, those too that are on their way."""
        self._treated[topic] = how
        self._move()

    def cut(self) -> None:
        """Let nobody reach it."""
        self._all, self.is_silent = Writes.WAITING, True

    def mend(self) -> None:
        """Let everybody reach it again, in every topic."""
        self._all, self.is_silent = Writes.TAKEN, False
        self._treated.clear()
        self.silent.clear()
        self._move()
        self._tell_listeners()

    def swallow_acknowledgements(self) -> None:
        """Take all records and tell nobody."""
        self._all = Writes.UNHEARD

    def is_unheard(self) -> bool:
        """Whether a record is in the log whose writer was told nothing yet."""
        return any(write.message is not None for write in self._on_their_way)

    def hear(self, topic: str) -> None:
        """Let a topic be read again."""
        self.silent.discard(topic)
        self._tell_listeners()

    def can_read(self, topic: str) -> bool:
        """Whether readers get an answer."""
        return not self.is_silent and topic not in self.silent

    # -- for the clients ----------------------------------------------------------------------------------

    def write(self, write: Write) -> None:
        """Take a record on its way."""
        self._on_their_way.append(write)
        self._move()

    def give_up(self, write: Write) -> None:
        """Tell the writer that no acknowledgement came. What is not in the log yet never comes into it."""
        if write in self._on_their_way:
            self._on_their_way.remove(write)
            write.told(NotPublished("no acknowledgement came in time"), None)

    def forget(self, write: Write) -> None:
        """Its writer is gone: what is not in the log yet never comes into it."""
        if write in self._on_their_way:
            self._on_their_way.remove(write)

    def _move(self) -> None:
        self._on_their_way = [write for write in self._on_their_way if not self._is_told(write)]

    def _is_told(self, write: Write) -> bool:
        how = self._treated.get(write.topic, self._all)
        if how in (Writes.TAKEN, Writes.UNHEARD, Writes.LOST) and write.message is None:
            write.message = self.append(write.topic, write.partition, write.value, key=write.key, headers=write.headers)
        if how is Writes.TAKEN:
            write.told(None, write.message)
        elif how in (Writes.REFUSED, Writes.LOST):
            write.told(NotPublished("the brokers did not take the record"), None)
        return how in (Writes.TAKEN, Writes.REFUSED, Writes.LOST)

    def _tell_listeners(self) -> None:
        for listener in list(self.listeners):
            listener()
