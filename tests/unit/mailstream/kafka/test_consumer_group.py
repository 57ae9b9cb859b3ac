"""Domain events and outgoing webhooks are read in a group: nothing counts as read before it is settled."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from mailstream.clock import SystemClock
from mailstream.domain.start import Start
from mailstream.kafka import consumer_group
from mailstream.kafka.consumer_group import BATCH, Ending, GroupReader
from streams.metrics import UNREADABLE
from tests.support.eventually import eventually
from tests.support.system import some_settings

TOPIC, OTHER = "orders", "payments"


class Brokers:
    """What a consumer of librdkafka does, one call of ``consume`` after the other; then there is nothing to read."""

    def __init__(self) -> None:
        self.says: list[list[Message]] = []
        self.ended = threading.Event()
        self.config: dict[str, Any] = {}
        self.subscribed: list[list[str]] = []
        self.stored: list[tuple[str, int, int]] = []
        self.assigned: list[TopicPartition] = []
        self.paused: list[str] = []
        self.committed_before: dict[tuple[str, int], int] = {}
        self.has_gone = False  #: the partitions were revoked: nothing can be stored
        self.failures_to_tell = 0  #: of the questions where the group stands
        self.is_closed = False
        self._on_assign: Any = None

    def __call__(self, config: dict[str, Any]) -> "Brokers":
        """Stands for the class of the client."""
        self.config = config
        return self

    def subscribe(self, topics: list[str], on_assign: Any) -> None:
        """The group gives it one partition of each."""
        self.subscribed.append(topics)
        on_assign(self, [TopicPartition(topic, 0) for topic in topics])

    def consume(self, most: int, _: float) -> list[Message]:
        """As the client does."""
        assert most == BATCH
        if self.says:
            return self.says.pop(0)
        self.ended.wait(0.001)
        return []

    def committed(self, parts: list[TopicPartition], _: float) -> list[TopicPartition]:
        """As the client does."""
        if self.failures_to_tell:
            self.failures_to_tell -= 1
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        known = self.committed_before
        return [
            TopicPartition(each.topic, each.partition, known.get((each.topic, each.partition), -1001)) for each in parts
        ]

    def get_watermark_offsets(self, *_: object) -> tuple[int, int]:
        """As the client does."""
        return 3, 9

    def incremental_assign(self, parts: list[TopicPartition]) -> None:
        """As the client does."""
        self.assigned += parts

    def store_offsets(self, offsets: list[TopicPartition]) -> None:
        """As the client does."""
        if self.has_gone:
            raise KafkaException(KafkaError(KafkaError._STATE))
        self.stored += [(each.topic, each.partition, each.offset) for each in offsets]

    def pause(self, parts: list[TopicPartition]) -> None:
        """As the client does."""
        self.paused += [each.topic for each in parts]

    def resume(self, parts: list[TopicPartition]) -> None:
        """As the client does."""

    def close(self) -> None:
        """As the client does: what is stored is committed."""
        self.is_closed = True


class Scene:
    """A reader on these brokers, and what it has settled."""

    def __init__(self, brokers: Brokers, start: Start = Start.LATEST) -> None:
        self.brokers = brokers
        self.topics = [TOPIC]
        self.settled: list[bytes | None] = []
        self.failures: list[BaseException] = []
        self.may_settle = asyncio.Event()
        self.may_settle.set()
        self.gives_up = False
        self.reader = GroupReader(
            some_settings("nobody:1", topic_prefix=""),
            SystemClock(),
            group="readers",
            topics=lambda: self.topics,
            handle=self._settle,
            start_of=lambda _: start,
            failed=self.failures.append,
            gauge=UNREADABLE,
        )

    async def _settle(self, records: Sequence[Message]) -> None:
        await self.may_settle.wait()
        if self.gives_up:
            raise Ending
        self.settled += [record.value() for record in records]

    def stored(self) -> list[tuple[str, int, int]]:
        """The offsets that were stored for records, not at an assignment."""
        return [each for each in self.brokers.stored if each[2] > 9]


@pytest.fixture
def brokers(monkeypatch: pytest.MonkeyPatch) -> Brokers:
    made = Brokers()
    monkeypatch.setattr(consumer_group, "Consumer", made)
    monkeypatch.setattr(consumer_group, "RETRY_SECONDS", 0.001)
    return made


@asynccontextmanager
async def a_scene(brokers: Brokers) -> AsyncIterator[Scene]:
    scene = Scene(brokers)
    yield scene
    scene.may_settle.set()
    await scene.reader.close()


def record(offset: int, topic: str = TOPIC) -> Message:
    return Message(topic, 0, offset, None, f"{topic} {offset}".encode())


def word(code: int, topic: str = TOPIC, partition: int = 0) -> Message:
    return Message(topic, partition, error=KafkaError(code))


async def test_an_offset_is_stored_only_when_its_records_are_settled(brokers: Brokers) -> None:
    async with a_scene(brokers) as scene:
        scene.may_settle.clear()
        brokers.says.append([record(10), record(11), record(10, OTHER)])
        await eventually(lambda: not brokers.says, waiting_for="a batch in work")
        await asyncio.sleep(0.01)
        assert scene.stored() == []

        scene.may_settle.set()
        await eventually(scene.stored, waiting_for="offsets")

    assert scene.settled == [b"orders 10", b"orders 11", b"payments 10"]
    assert scene.stored() == [(TOPIC, 0, 12), (OTHER, 0, 11)]


async def test_a_batch_is_not_read_before_the_one_before_it_is_settled(brokers: Brokers) -> None:
    async with a_scene(brokers) as scene:
        scene.may_settle.clear()
        brokers.says += [[record(10)], [record(11)]]
        await eventually(lambda: len(brokers.says) == 1, waiting_for="the first batch in work")
        await asyncio.sleep(0.02)
        assert len(brokers.says) == 1

        scene.may_settle.set()
        await eventually(lambda: len(scene.stored()) == 2, waiting_for="both")


async def test_what_is_given_up_for_the_stop_is_not_stored(brokers: Brokers) -> None:
    async with a_scene(brokers) as scene:
        scene.gives_up = True
        brokers.says.append([record(10)])
        await eventually(lambda: brokers.is_closed, waiting_for="the end of the reading")

    assert scene.stored() == []
    assert scene.failures == [], "it was told to end"


async def test_a_bug_of_the_one_who_settles_ends_the_reading_and_is_told_once(brokers: Brokers) -> None:
    async with a_scene(brokers) as scene:
        scene.reader._settle = None  # type: ignore[assignment]
        brokers.says += [[record(10)], [record(11)]]
        await eventually(lambda: scene.failures, waiting_for="the failure")

    (failure,) = scene.failures
    assert isinstance(failure, TypeError)
    assert scene.stored() == []
    assert brokers.is_closed, "it has left its group"


async def test_a_fatal_error_ends_the_reading(brokers: Brokers) -> None:
    async with a_scene(brokers) as scene:
        fatal = KafkaError(KafkaError._FATAL, "fenced", True)
        brokers.says.append([Message(TOPIC, 0, error=fatal)])
        await eventually(lambda: scene.failures, waiting_for="the failure")

    assert isinstance(scene.failures[0], KafkaException)


async def test_what_passes_by_itself_ends_nothing(brokers: Brokers) -> None:
    async with a_scene(brokers) as scene:
        brokers.says += [
            [word(KafkaError._TRANSPORT)],
            [word(KafkaError._ALL_BROKERS_DOWN, partition=-1)],
            [record(10)],
        ]
        await eventually(scene.stored, waiting_for="the record behind them")

    assert scene.failures == []
    assert scene.reader.unreadable == {}


@pytest.mark.parametrize("code", [KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.UNKNOWN_TOPIC_OR_PART])
async def test_a_topic_that_cannot_be_read_is_named_and_the_others_go_on(brokers: Brokers, code: int) -> None:
    async with a_scene(brokers) as scene:
        brokers.says += [[word(code, OTHER)], [record(10)]]
        await eventually(scene.stored, waiting_for="a record of the other topic")
        assert list(scene.reader.unreadable) == [OTHER]
        assert brokers.paused == [OTHER], "so that its end is told again"

        brokers.says.append([word(KafkaError._PARTITION_EOF, OTHER)])
        await eventually(lambda: not scene.reader.unreadable, waiting_for="a topic that can be read again")


async def test_offsets_of_partitions_that_have_gone_are_left_to_their_new_owner(brokers: Brokers) -> None:
    async with a_scene(brokers) as scene:
        await eventually(lambda: brokers.assigned, waiting_for="the assignment")
        brokers.has_gone = True
        brokers.says.append([record(10)])
        await eventually(lambda: scene.settled, waiting_for="a settled record")
        await asyncio.sleep(0.01)
        brokers.has_gone = False
        brokers.says.append([record(11)])
        await eventually(scene.stored, waiting_for="the reading that goes on")

    assert scene.stored() == [(TOPIC, 0, 12)]
    assert scene.failures == []


async def test_topics_are_subscribed_to_anew_when_the_rules_name_others(brokers: Brokers) -> None:
    async with a_scene(brokers) as scene:
        await eventually(lambda: brokers.subscribed, waiting_for="the first")
        scene.topics = [OTHER, TOPIC]
        await eventually(lambda: len(brokers.subscribed) == 2, waiting_for="the second")
        await asyncio.sleep(0.01)

    assert brokers.subscribed == [[TOPIC], sorted([TOPIC, OTHER])]


@pytest.mark.parametrize(("start", "offset"), [(Start.LATEST, 9), (Start.EARLIEST, 3)])
async def test_a_partition_that_was_never_read_begins_where_the_rules_say_and_that_is_kept(
    brokers: Brokers, start: Start, offset: int
) -> None:
    """Kept, as a restart before the first event must not skip what came meanwhile."""
    brokers.failures_to_tell = 2  # guessing could mail a year of history
    scene = Scene(brokers, start)
    await eventually(lambda: brokers.assigned, waiting_for="the assignment")
    await scene.reader.close()

    assert [(each.topic, each.offset) for each in brokers.assigned] == [(TOPIC, offset)]
    assert brokers.stored == [(TOPIC, 0, offset)]


async def test_a_partition_that_was_read_goes_on_where_the_group_stands(brokers: Brokers) -> None:
    brokers.committed_before[TOPIC, 0] = 5
    async with a_scene(brokers):
        await eventually(lambda: brokers.assigned, waiting_for="the assignment")

    assert [each.offset for each in brokers.assigned] == [TopicPartition(TOPIC).offset], "as the client knows it"
    assert brokers.stored == []


async def test_nothing_is_committed_by_the_client_before_it_is_settled(brokers: Brokers) -> None:
    async with a_scene(brokers):
        await eventually(lambda: brokers.config, waiting_for="the client")

    assert brokers.config["enable.auto.offset.store"] is False
    assert brokers.config["isolation.level"] == "read_committed"
