"""Other services compress their records as they like; the worker reads all of Kafka's ways."""

import httpx
from confluent_kafka import KafkaError, Producer

from mailstream.domain import codec, email_id, topics
from mailstream.domain.recipient import canonical, partition_of, recipient_hash
from mailstream.domain.request import Address, EmailRequest
from mailstream.domain.topics import Naming
from mailstream.kafka.config import connection
from mailstream.kafka.producer import SETTINGS
from mailstream.settings import Settings
from tests.support.eventually import eventually
from tests.support.mail_system import MailSystem, an_address
from tests.support.processes import Programs


async def test_requests_compressed_in_each_of_kafkas_ways_are_sent(programs: Programs, settings: Settings) -> None:
    system = MailSystem(programs, settings, send_gap=0, session_timeout=6)
    asked = {kind: _ask(system.settings, kind) for kind in ("none", "gzip", "snappy", "lz4", "zstd")}

    [worker] = system.add_workers(1)

    def missing() -> list[str]:
        called = {call["id"] for call in system.ledger()}
        found = [kind for kind, id_ in asked.items() if id_ not in called]
        assert not found, f"{found}, the worker says {httpx.get(f'{worker.url}/readyz', timeout=5).text}"
        return found

    await eventually(lambda: not missing(), within_seconds=20, waiting_for="a mail of each compression")


def _ask(settings: Settings, compression: str) -> str:
    recipient = canonical(an_address())
    request = EmailRequest(
        id=email_id.new(recipient),
        to=Address(recipient),
        tenant="dev",
        source="test",
        subject="Hello",
        text="Hello " * 200,  # what would not shrink is sent as it is
    )
    refused: list[KafkaError] = []
    producer = Producer({**SETTINGS, **connection(settings), "compression.type": compression})
    producer.produce(
        Naming(settings.topic_prefix).of(topics.REQUESTED),
        codec.encode(request),
        recipient.encode(),
        partition_of(recipient_hash(recipient), settings.partitions),
        headers=list(codec.headers_of(request)),
        on_delivery=lambda error, _: refused.append(error) if error else None,
    )
    assert producer.flush(10) == 0
    assert not refused, f"the broker took nothing compressed by {compression}"
    assert request.id is not None
    return request.id
