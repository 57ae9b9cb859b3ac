"""What a coordinator that is not there yet says is waited out; what it says for good is told at once."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from mailstream.domain.errors import NotCaughtUp
from mailstream.kafka import group_offsets
from mailstream.kafka.group_offsets import COORDINATOR_MOVES, GroupOffsets
from mailstream.settings import Settings

PLACES = [TopicPartition("email.attempts", 0), TopicPartition("email.attempts", 1)]


class Place:
    """A partition with an offset or an error: of its own, as librdkafka gives them."""

    def __init__(self, offset: int, error: int | None = None) -> None:
        self.offset, self.error = offset, None if error is None else KafkaError(error)


class Coordinator:
    """Answers in turn; the last one for ever."""

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.asked = 0

    def _answer(self) -> Any:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, int):
            raise KafkaException(KafkaError(answer))
        return answer

    def committed(self, _: object, __: float) -> Any:
        """As the client does."""
        return self._answer()

    def commit(self, **_: object) -> Any:
        """As the client does."""
        return self._answer()

    def close(self) -> None:
        """As the client does."""


@pytest.fixture
def coordinator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Coordinator]:
    made = Coordinator()
    monkeypatch.setattr(group_offsets, "Consumer", lambda _: made)
    return made


@pytest.mark.parametrize("is_commit", [False, True], ids=["asked", "committed"])
async def test_it_goes_on_asking_a_coordinator_that_is_not_there_yet(
    coordinator: Coordinator, *, is_commit: bool
) -> None:
    found = [Place(7), Place(-1001)]
    of_one = [Place(7), Place(-1001, KafkaError.COORDINATOR_LOAD_IN_PROGRESS)]
    coordinator.answers = [*sorted(COORDINATOR_MOVES), KafkaError._TIMED_OUT, of_one, found]
    offsets = GroupOffsets(Settings(_env_file=None), "checkpoints")

    if is_commit:
        await offsets.commit(PLACES, seconds=30)
    else:
        assert await offsets.committed(PLACES, seconds=30) == found

    assert coordinator.asked == len(COORDINATOR_MOVES) + 3
    await offsets.close()


async def test_an_error_of_one_partition_is_no_proof_that_nothing_was_committed(coordinator: Coordinator) -> None:
    coordinator.answers = [[Place(7), Place(-1001, KafkaError.TOPIC_AUTHORIZATION_FAILED)]]
    offsets = GroupOffsets(Settings(_env_file=None), "checkpoints")

    with pytest.raises(NotCaughtUp, match="TOPIC_AUTHORIZATION_FAILED"):
        await offsets.committed(PLACES, seconds=30)

    assert coordinator.asked == 1
    await offsets.close()


async def test_it_does_not_ask_for_ever_and_says_where_to_look(coordinator: Coordinator) -> None:
    coordinator.answers = [KafkaError.NOT_COORDINATOR]
    offsets, begun = GroupOffsets(Settings(_env_file=None), "checkpoints"), time.monotonic()

    with pytest.raises(NotCaughtUp, match=r"group checkpoints .*NOT_COORDINATOR.*__consumer_offsets"):
        await offsets.committed(PLACES, seconds=0.3)

    assert 0.3 <= time.monotonic() - begun < 10
    assert coordinator.asked > 1
    await offsets.close()


async def test_a_commit_that_may_fail_is_tried_once(coordinator: Coordinator) -> None:
    coordinator.answers = [KafkaError.NOT_COORDINATOR]
    offsets = GroupOffsets(Settings(_env_file=None), "checkpoints")

    with pytest.raises(NotCaughtUp):
        await offsets.commit(PLACES, seconds=0)

    assert coordinator.asked == 1
    await offsets.close()
