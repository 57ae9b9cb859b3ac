"""Where a partition begins and ends, while its leader moves."""

from unittest.mock import Mock

import pytest
from confluent_kafka import KafkaError, KafkaException

from mailstream.domain.errors import NoKafka
from mailstream.kafka import reader as read
from mailstream.kafka.reader import Reader, Span
from tests.support.system import some_settings


def a_reader(monkeypatch: pytest.MonkeyPatch, *answers: object) -> tuple[Reader, Mock]:
    consumer = Mock(get_watermark_offsets=Mock(side_effect=answers))
    monkeypatch.setattr(read, "Consumer", Mock(return_value=consumer))
    monkeypatch.setattr(read, "PAUSE_SECONDS", 0.0)
    return Reader(some_settings("nobody:1")), consumer


def test_a_leader_that_is_no_leader_any_more_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    moved = KafkaException(KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION))
    reader, _ = a_reader(monkeypatch, moved, moved, (3, 9))

    assert reader.span("email.status", 1) == Span("email.status", 1, 3, 9)


def test_what_does_not_pass_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, consumer = a_reader(monkeypatch, KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)), (3, 9))

    with pytest.raises(NoKafka, match="TOPIC_AUTHORIZATION_FAILED"):
        reader.span("email.status", 1)

    consumer.get_watermark_offsets.assert_called_once()
