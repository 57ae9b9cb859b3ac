"""A follower that ends is noticed at once: by the follower's own word, without a look."""

import asyncio
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError

from mailstream.domain.errors import NotCaughtUp
from mailstream.kafka import tail
from mailstream.kafka.kafka import Kafka
from mailstream.settings import Settings
from streams.core.pace import Pace
from streams.faust_guards.app import GuardedApp
from streams.sending.gate import Gate, read_clocks
from streams.sending.suppressions import Suppressions
from tests.support.eventually import eventually

TOPIC = "email.suppressions"


class Brokers:
    """What librdkafka says next; nothing, when there is nothing to say."""

    def __init__(self) -> None:
        self.says: list[Any] = []

    def consumer(self, _: object) -> "Brokers":
        """Stands for the class of the client."""
        return self

    def poll(self, seconds: float) -> Any:
        """As the client does."""
        if self.says:
            return self.says.pop(0)
        time.sleep(min(seconds, 0.001))
        return None

    def consume(self, *_: object) -> list[Any]:
        """As the client does."""
        return []

    def incremental_assign(self, parts: Iterable[Any]) -> None:
        """All are empty."""
        self.says += [Word(KafkaError._PARTITION_EOF, part.partition, 0) for part in parts]

    def list_topics(self, *_: object, **__: object) -> None:
        """As the client does."""

    def close(self) -> None:
        """As the client does."""


class Word:
    """A message that says how it stands with a partition."""

    def __init__(self, code: int, partition: int = 0, offset: int | None = None) -> None:
        self._code, self._partition, self._offset = code, partition, offset

    def error(self) -> KafkaError:
        return KafkaError(self._code)

    def topic(self) -> str:
        return TOPIC

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int | None:
        return self._offset


@pytest.fixture
def brokers(monkeypatch: pytest.MonkeyPatch) -> Brokers:
    made = Brokers()
    monkeypatch.setattr(tail, "Consumer", made.consumer)
    return made


def an_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[GuardedApp, list[BaseException]]:
    """A worker's app that owns what it should and may call, and with what it has crashed."""
    app = GuardedApp(Settings(_env_file=None, data_dir=str(tmp_path)), "test")
    crashes: list[BaseException] = []

    async def crash(error: BaseException) -> None:
        crashes.append(error)

    monkeypatch.setattr(app, "crash", crash)
    app.is_draining = False
    return app, crashes


def a_gate(closed: Callable[[], str | None]) -> Gate:
    pace = Pace(gap=0.001, burst=1, partitions=4)
    pace.owns(range(4), read_clocks())
    return Gate(pace, closed)


async def test_a_worker_that_cannot_follow_the_suppressions_starts_no_call_any_more_and_ends(
    brokers: Brokers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, crashes = an_app(tmp_path, monkeypatch)
    gate = a_gate(lambda: "draining" if app.is_draining else None)
    suppressions = Suppressions(Kafka(Settings(_env_file=None, partitions=4)), app.fail)
    await asyncio.wait_for(suppressions.load(), 5)
    assert await gate.passed(lambda: False) is not None

    brokers.says.append(Word(KafkaError._AUTO_OFFSET_RESET, 2))
    await eventually(lambda: crashes, within_seconds=5, waiting_for="the end of the worker")

    (why,) = crashes
    assert f"{TOPIC}/2 can be followed no more" in str(why)
    assert "nothing is lost" in str(why)
    assert await gate.passed(lambda: False) is None, "nothing is called any more"
    await app._on_partitions_assigned(set())
    assert await gate.passed(lambda: False) is None, "also when partitions come while it ends"
    await suppressions.close()


async def test_a_worker_that_cannot_load_the_suppressions_does_not_wait_for_them(
    brokers: Brokers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, crashes = an_app(tmp_path, monkeypatch)
    brokers.incremental_assign = lambda _: brokers.says.append(Word(KafkaError.TOPIC_AUTHORIZATION_FAILED))  # type: ignore[method-assign]
    suppressions = Suppressions(Kafka(Settings(_env_file=None, partitions=4)), app.fail)

    with pytest.raises(NotCaughtUp, match="TOPIC_AUTHORIZATION_FAILED"):
        await asyncio.wait_for(suppressions.load(), 5)

    assert len(crashes) == 1
    await suppressions.close()


async def test_what_passes_by_itself_ends_nothing(
    brokers: Brokers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, crashes = an_app(tmp_path, monkeypatch)
    suppressions = Suppressions(Kafka(Settings(_env_file=None, partitions=4)), app.fail)
    brokers.says += [Word(code) for code in tail.PASSING]

    await asyncio.wait_for(suppressions.load(), 5)

    assert not brokers.says
    assert not crashes
    await suppressions.close()
