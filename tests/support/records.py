"""What stands in a topic: all of it, now."""

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from mailstream.kafka.config import admin, connection
from mailstream.settings import Settings


def records_in(settings: Settings, topic: str) -> list[Message]:
    """All committed records of a topic (full name), partition by partition, in log order."""
    partitions = admin(settings).list_topics(topic, timeout=10).topics[topic].partitions
    reader = Consumer(
        {
            **connection(settings),
            "group.id": "unused",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
        }
    )
    found: dict[int, list[Message]] = {partition: [] for partition in sorted(partitions)}
    left = set(partitions)
    try:
        reader.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        while left:
            message = reader.poll(10)
            assert message is not None, "the broker does not answer"
            if (error := message.error()) is None:
                found[message.partition() or 0].append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                left.discard(message.partition() or 0)
            else:
                raise AssertionError(error)
    finally:
        reader.close()
    return [message for records in found.values() for message in records]
