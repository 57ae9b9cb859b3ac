"""Producers that nobody here wrote, as their makers ship them: key = canonical address is all they have to know."""

from collections.abc import Callable, Mapping

import pytest
from confluent_kafka import Message, Producer

from mailstream.domain import codec, topics
from mailstream.domain.recipient import canonical, partition_of, recipient_hash
from mailstream.domain.request import Address, EmailRequest
from mailstream.kafka.record import record_of
from mailstream.settings import Settings
from streams.core import intake
from tests.support import foreign
from tests.support.records import records_in

ADDRESSES = [f"person-{n}@example.com" for n in range(40)] + [
    "jörg@bücher.example",
    "ADA@Example.COM",
    "o'neil+x@example.org",
]
Write = Callable[[str, str, Mapping[str, str]], None]


def asked() -> dict[str, str]:
    """Key and value of a request to each address."""
    requests = {address: EmailRequest(to=Address(address), subject="Hi", text="Hello") for address in ADDRESSES}
    return {canonical(address): codec.encode(request).decode() for address, request in requests.items()}


def write_with_librdkafka(bootstrap: str, topic: str, records: Mapping[str, str]) -> None:
    """confluent-kafka as it comes: its partitioner is not Kafka's."""
    producer = Producer({"bootstrap.servers": bootstrap})
    for key, value in records.items():
        producer.produce(topic, value.encode(), key.encode())
    assert producer.flush(10) == 0


@pytest.mark.parametrize(
    "write",
    [foreign.write_with_java, foreign.write_with_kafkajs, foreign.write_with_franz_go],
    ids=lambda write: write.__name__,
)
def test_a_default_partitioner_finds_the_partition_of_the_recipient(settings: Settings, write: Write) -> None:
    topic = settings.topic_prefix + topics.REQUESTED.name
    write(settings.kafka_bootstrap, topic, asked())

    records = records_in(settings, topic)

    assert {(record.key() or b"").decode() for record in records} == set(asked())
    for record in records:
        assert record.partition() == partition_of(recipient_hash((record.key() or b"").decode()), settings.partitions)
        assert isinstance(ruling_on(record, settings), intake.ParsedRequest)


def test_a_producer_with_another_hash_costs_one_hop_and_no_mail(settings: Settings) -> None:
    topic = settings.topic_prefix + topics.REQUESTED.name
    write_with_librdkafka(settings.kafka_bootstrap, topic, asked())

    rulings = [ruling_on(record, settings) for record in records_in(settings, topic)]

    astray = [ruling for ruling in rulings if isinstance(ruling, intake.Misrouted)]
    assert astray, "its partitioner has become Kafka's: say so in docs/events.md"
    assert len(astray) + sum(isinstance(ruling, intake.ParsedRequest) for ruling in rulings) == len(asked())
    for ruling in astray:
        assert ruling.partition == partition_of(recipient_hash(ruling.key.decode()), settings.partitions)


def ruling_on(record: Message, settings: Settings) -> intake.Ruling:
    """What the worker makes of a record."""
    rules = intake.Rules(settings.partitions, settings.max_event_age, frozenset())
    received = record_of(record)
    return intake.read(received, rules, now=received.timestamp_ms / 1000)
