"""An id that was answered with 202 is never unknown in between, in every order of reading."""

from collections import defaultdict
from collections.abc import Callable
from unittest.mock import Mock

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from api.view.pending import UnreadRequests
from mailstream.domain import codec, email_id
from mailstream.domain.recipient import canonical
from mailstream.domain.request import Address, Batch, EmailRequest

TOPIC, PARTITIONS, HOME_OF_BATCH = "email.requested", 2, 0


def an_item(number: int) -> EmailRequest:
    to = f"user{number}@example.com"
    return EmailRequest(to=Address(to), id=email_id.new(canonical(to)), subject="s", text="t")


def a_message(record: Struct, partition: int, offset: int) -> Mock:
    value = codec.encode(record)
    return Mock(
        value=lambda: value,
        partition=lambda: partition,
        offset=lambda: offset,
        timestamp=lambda: (2, 1_700_000_000_000),
    )


class World:
    """Two partitions of requests, the statuses, a worker that unfolds a batch, and a replica that reads all of it."""

    def __init__(self, items: list[EmailRequest]) -> None:
        self.items = {email_id.partition_in(item.id or "", PARTITIONS): item for item in items}
        self.requests: dict[int, list[Struct]] = {n: [] for n in range(PARTITIONS)}
        self.statuses: list[bytes] = []
        self.taken, self.committed = defaultdict(int), {(TOPIC, n): 0 for n in range(PARTITIONS)}  # type: ignore[var-annotated]
        self.requests[HOME_OF_BATCH].append(Batch(items=tuple(items), id=email_id.new("batch of t")))
        self.read, self.statuses_read = dict.fromkeys(range(PARTITIONS), 0), 0
        self.view: set[bytes] = set()
        self.unread = UnreadRequests(TOPIC, PARTITIONS, self.view.__contains__, lambda *_: None)
        self.question: tuple[dict[tuple[str, int], int], dict[int, int], int] | None = None
        self.seen: set[bytes] = set()

    def steps(self) -> list[Callable[[], None]]:
        """All that may happen next."""
        found: list[Callable[[], None]] = [self.ask]
        for partition in range(PARTITIONS):
            if self.taken[partition] < len(self.requests[partition]):
                found.append(lambda partition=partition: self.take(partition))  # type: ignore[misc]
            if self.committed[TOPIC, partition] < self.taken[partition]:
                found.append(lambda partition=partition: self.commit(partition))  # type: ignore[misc]
            if self.read[partition] < len(self.requests[partition]):
                found.append(lambda partition=partition: self.apply(partition))  # type: ignore[misc]
        if self.statuses_read < len(self.statuses):
            found.append(self.apply_status)
        if self.question is not None and self._has_come_as_far():
            found.append(self.let_go)
        return found

    def take(self, partition: int) -> None:
        """The worker takes a record: a batch becomes records, a record a status, before it may be committed."""
        record = self.requests[partition][self.taken[partition]]
        if isinstance(record, Batch):
            for home, item in self.items.items():
                self.requests[home].append(item)
        else:
            assert isinstance(record, EmailRequest)
            self.statuses.append((record.id or "").encode())
        self.taken[partition] += 1

    def commit(self, partition: int) -> None:
        self.committed[TOPIC, partition] = self.taken[partition]

    def apply(self, partition: int) -> None:
        offset = self.read[partition]
        self.unread.apply(a_message(self.requests[partition][offset], partition, offset))
        self.read[partition] += 1

    def apply_status(self) -> None:
        key = self.statuses[self.statuses_read]
        self.view.add(key)
        self.unread.pop(key)
        self.statuses_read += 1

    def ask(self) -> None:
        """What is committed, and after that where the topics end."""
        ends = {partition: len(records) for partition, records in self.requests.items()}
        self.question = dict(self.committed), ends, len(self.statuses)

    def _has_come_as_far(self) -> bool:
        assert self.question is not None
        _, ends, statuses = self.question
        return all(self.read[n] >= end for n, end in ends.items()) and self.statuses_read >= statuses

    def let_go(self) -> None:
        assert self.question is not None
        self.unread.pop_read(self.question[0], 0.0)
        self.question = None

    def look(self) -> None:
        """What was known once is known for good."""
        known = {key for item in self.items.values() if (key := (item.id or "").encode()) in self._known()}
        assert self.seen <= known, "an id is unknown that was known"
        self.seen |= known

    def _known(self) -> set[bytes]:
        return self.view | {key for item in self.items.values() if (key := (item.id or "").encode()) in self.unread}


def items_of_both_partitions() -> list[EmailRequest]:
    found: dict[int, EmailRequest] = {}
    for number in range(100):
        item = an_item(number)
        found.setdefault(email_id.partition_in(item.id or "", PARTITIONS), item)
    return [found[n] for n in range(PARTITIONS)]


ITEMS = items_of_both_partitions()


@given(st.lists(st.integers(0, 10_000), max_size=60))
def test_no_order_of_reading_and_committing_makes_an_item_of_a_batch_unknown(choices: list[int]) -> None:
    world = World(ITEMS)
    for choice in choices:
        steps = world.steps()
        steps[choice % len(steps)]()
        world.look()


def test_an_items_own_record_stays_when_its_batch_is_read_behind_it() -> None:
    world = World(ITEMS)
    elsewhere = 1 - HOME_OF_BATCH
    world.take(HOME_OF_BATCH)
    world.commit(HOME_OF_BATCH)
    world.apply(elsewhere)  # its leader answered first
    for _ in range(2):
        world.apply(HOME_OF_BATCH)
    world.look()
    world.ask()

    world.let_go()

    world.look()


def test_the_own_record_takes_over_where_it_lies_in_the_partition_of_its_batch() -> None:
    world = World(ITEMS)
    world.apply(HOME_OF_BATCH)
    world.take(HOME_OF_BATCH)
    world.commit(HOME_OF_BATCH)
    for partition in (HOME_OF_BATCH, 1 - HOME_OF_BATCH):
        world.apply(partition)
    world.look()
    world.ask()

    world.let_go()

    world.look()
