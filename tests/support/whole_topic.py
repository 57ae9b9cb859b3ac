"""Read a topic from its beginning to where it ends now."""

from collections.abc import Iterator

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from mailstream.domain.topics import Naming, Topic
from mailstream.kafka import tail
from mailstream.kafka.config import connection
from mailstream.settings import Settings


def whole_topic(settings: Settings, topic: Topic) -> Iterator[Message]:
    """Every record that is in the topic, partition by partition in log order."""
    name = Naming(settings.topic_prefix).of(topic)
    consumer = Consumer({**tail.SETTINGS, **connection(settings)})
    try:
        for partition in range(settings.partitions):
            first, _ = consumer.get_watermark_offsets(TopicPartition(name, partition), timeout=10)
            consumer.assign([TopicPartition(name, partition, first)])
            while True:
                message = consumer.poll(10)
                assert message is not None, f"{name}/{partition} does not answer"
                if (error := message.error()) is None:
                    yield message
                    continue
                assert error.code() == KafkaError._PARTITION_EOF, error
                break
    finally:
        consumer.close()
