"""Another service's transaction that stays open on every partition of a topic: its outbox hangs, or is slow."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import Producer

from mailstream.domain.topics import Naming, Topic
from mailstream.kafka.config import connection
from mailstream.settings import Settings


@contextmanager
def open_transaction(settings: Settings, *topics: Topic) -> Iterator[None]:
    """Open while the block runs, then aborted."""
    producer = Producer({**connection(settings), "transactional.id": f"outbox-{uuid.uuid4().hex}"})
    producer.init_transactions()
    producer.begin_transaction()
    for topic in topics:
        for partition in range(settings.partitions):
            producer.produce(Naming(settings.topic_prefix).of(topic), b"{}", b"k", partition)
    producer.flush()
    try:
        yield
    finally:
        producer.abort_transaction()
