"""The look at the topics, where a broker has not heard all of a topic that another one made a moment ago."""

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from mailstream.domain import topics
from mailstream.domain.errors import NoKafka
from mailstream.kafka import admin as check
from mailstream.settings import Settings

ONE = (topics.SUPPRESSIONS,)
NAME = topics.SUPPRESSIONS.name


class Admin:
    """Answers each question in turn with an error, or as a broker does that has the topic."""

    def __init__(self, *, listed: list[int], described: list[int]) -> None:
        self._listed, self._described = listed, described

    def list_topics(self, **_: object) -> Any:
        """As the client does."""
        error = KafkaError(self._listed.pop(0)) if self._listed else None
        partitions = {} if error else dict.fromkeys(range(4))
        return SimpleNamespace(topics={NAME: SimpleNamespace(error=error, partitions=partitions)})

    def describe_configs(self, resources: list[Any]) -> dict[Any, "Future[Any]"]:
        """As the client does."""
        answer: Future[Any] = Future()
        if self._described:
            answer.set_exception(KafkaException(KafkaError(self._described.pop(0))))
        else:
            answer.set_result({"cleanup.policy": SimpleNamespace(value="compact")})
        return {resources[0]: answer}


def looked(admin: Admin) -> check.Finding:
    (finding,) = check.inspect(admin, Settings(_env_file=None, partitions=4), ONE)  # type: ignore[arg-type]
    return finding


def test_a_topic_that_was_made_just_now_is_looked_at_again() -> None:
    admin = Admin(
        listed=[KafkaError.LEADER_NOT_AVAILABLE, KafkaError.UNKNOWN_TOPIC_OR_PART],
        described=[KafkaError.UNKNOWN_TOPIC_OR_PART],
    )

    found = looked(admin)

    assert not found.is_missing
    assert found.difference is None


def test_it_is_not_looked_at_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "SECONDS", 0.2)

    with pytest.raises(NoKafka, match="UNKNOWN_TOPIC_OR_PART"):
        looked(Admin(listed=[], described=[KafkaError.UNKNOWN_TOPIC_OR_PART] * 1000))


def test_an_error_that_stays_is_told_at_once() -> None:
    described = [KafkaError.TOPIC_AUTHORIZATION_FAILED] * 1000

    with pytest.raises(NoKafka, match="TOPIC_AUTHORIZATION_FAILED"):
        looked(Admin(listed=[], described=described))

    assert len(described) == 999
