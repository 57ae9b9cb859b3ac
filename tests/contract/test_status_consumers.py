"""The example consumers of ``email.status`` print each news once: neither repeats nor late records, over tombstones."""

import pytest
from confluent_kafka import Producer
from msgspec import structs

from mailstream.domain import codec, topics
from mailstream.domain.status import Status
from mailstream.kafka.config import connection
from mailstream.settings import Settings
from tests.support import foreign
from tests.support.builders import a_status


@pytest.mark.timeout(120)
@pytest.mark.parametrize("language", ["python", "node"])
def test_an_example_follows_email_status(settings: Settings, language: str) -> None:
    topic = settings.topic_prefix + topics.STATUS.name
    queued, sent = a_status(), a_status(Status.SENT, 1)
    other, last = structs.replace(queued, id="em_00000000_other"), structs.replace(sent, id="em_00000000_last")
    producer = Producer(connection(settings))
    for status in (queued, queued, sent, queued, other, sent):
        producer.produce(topic, codec.encode(status), status.id.encode(), 0)
    producer.produce(topic, None, other.id.encode(), 0)
    producer.produce(topic, codec.encode(last), last.id.encode(), 0)
    assert producer.flush(10) == 0

    with foreign.following_status(language, settings.kafka_bootstrap, f"{settings.topic_prefix}crm", topic) as lines:
        seen = [lines.readline().split() for _ in range(4)]

    assert seen == [
        [queued.id, "QUEUED", "None"],
        [sent.id, "SENT", "None"],
        [other.id, "QUEUED", "None"],
        [last.id, "SENT", "None"],
    ]
