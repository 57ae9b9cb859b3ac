"""What a million statuses cost the API: seconds to ready, bytes of memory, and look-ups while 2,000 a second change.

`python -m tests.benchmarks.view [statuses]`: a table on stderr, JSON on stdout. The topic holds one record for each email,
as it does once it is compacted.
"""

import json
import multiprocessing
import os
import random
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from confluent_kafka import Producer
from msgspec import structs

from mailstream.domain import codec, topics
from mailstream.domain.email_id import partition_in
from mailstream.domain.request import Lane
from mailstream.domain.status import Coordinates, EmailStatus, Fact, Provider, Status, is_final, rank_of
from mailstream.domain.topics import Naming
from mailstream.kafka.config import connection
from mailstream.settings import Settings
from tests.benchmarks.api_process import ApiProcess
from tests.benchmarks.machine import machine
from tests.support.system import some_settings, topics_of

STATUSES = 1_000_000
UPDATES_PER_SECOND = 2000
LOOKUPS = 20_000
#: How emails end up, and of how many in a hundred; those that wait are few, and a year of bulk mail is mostly delivered.
_ENDS = (
    (70, (Status.QUEUED, Status.PROCESSING, Status.SENT, Status.DELIVERED)),
    (20, (Status.QUEUED, Status.PROCESSING, Status.SENT)),
    (3, (Status.QUEUED, Status.PROCESSING, Status.SENT, Status.DEFERRED, Status.BOUNCED)),
    (3, (Status.QUEUED,)),
    (2, (Status.QUEUED, Status.CANCELLED)),
    (2, (Status.QUEUED, Status.PROCESSING, Status.RETRYING, Status.FAILED)),
)
_NOW = datetime.now(UTC)
_dice = random.Random(1)


def a_status(number: int) -> EmailStatus:
    """One of a month of emails, each with ids, fingerprint and times of its own."""
    recipient = f"{_dice.getrandbits(31):08x}"
    [facts] = _dice.choices([facts for _, facts in _ENDS], [share for share, _ in _ENDS])
    created = _NOW - timedelta(seconds=_dice.uniform(0, 30 * 86_400))
    at = [created + timedelta(seconds=2 * step + _dice.random()) for step in range(len(facts))]
    attempt = int(len(facts) > 1)
    nonce = f"{_dice.getrandbits(128):032x}" if attempt else None
    return EmailStatus(
        writer=f"mailstream-worker-{number % 3}/{number % 7:016x}",
        id=f"em_{recipient}_{_dice.getrandbits(128):032x}",
        tenant="dev",
        recipient=recipient,
        to_masked=f"{'abcdefghij'[number % 10]}***@{'egmnw'[number % 5]}***.com",
        status=facts[-1],
        final=is_final(facts[-1]),
        rank=rank_of(facts[-1], attempt),
        attempt=attempt,
        nonce=nonce,
        answered=attempt,
        fingerprint=f"{_dice.getrandbits(256):064x}",
        reference=f"order-{number}" if number % 2 else None,
        tags=("orders",) if number % 3 else (),
        lane=(Lane.NORMAL, Lane.BULK)[number % 2],
        request=Coordinates(number % 16, number),
        order=number,
        provider=Provider(f"{_dice.getrandbits(80):020x}", 202, None) if attempt else None,
        created_at=created,
        updated_at=at[-1],
        timeline=tuple(
            Fact(at=moment, status=fact, attempt=min(step, 1))
            for step, (moment, fact) in enumerate(zip(at, facts, strict=True))
        ),
    )


def main() -> None:
    """Run and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else STATUSES
    bootstrap = Settings().kafka_bootstrap
    settings = some_settings(bootstrap, partitions=16, topic_prefix=f"bench-{uuid.uuid4().hex[:8]}.", sender=None)
    with topics_of(settings):
        with ApiProcess(settings) as api:
            empty_mib, empty_seconds = api.rss_mib(), api.seconds_to_ready
        sample, size = _write(settings, count)
        with ApiProcess(settings) as api:
            time.sleep(2)  # what loading left behind is given back
            full_mib, seconds, cpu_seconds = api.rss_mib(), api.seconds_to_ready, api.cpu_seconds_to_ready
            paths = [f"/v1/emails/{status.id}" for status in sample]
            # this key may see whole addresses: the first look-up of an email asks Kafka for its request
            first = api.measure("lookup, first of each email", 1, len(paths), "GET", paths, None)
            still = api.measure("lookup, nothing changes", 1, LOOKUPS, "GET", paths, None)
            with _updates(settings, sample):
                moving = api.measure("lookup, 2,000 updates/s", 1, LOOKUPS, "GET", paths, None)
            figures = {
                "statuses": count,
                "bytes_of_a_record": round(size / count),
                "seconds_to_ready": round(seconds, 1),
                "cpu_seconds_to_ready": round(cpu_seconds, 1),
                "seconds_to_ready_when_empty": round(empty_seconds, 1),
                "bytes_each_in_memory": round((full_mib - empty_mib) * 2**20 / count),
                "rss_mib": round(full_mib),
                "rss_mib_after_updates": round(api.rss_mib()),
            }
    print("\n".join(f"{name:28} {value}" for name, value in figures.items()), file=sys.stderr)
    print(json.dumps({"machine": machine(bootstrap), **figures, "rows": [first, still, moving]}, indent=1))


def _write(settings: Settings, count: int) -> tuple[list[EmailStatus], int]:
    """Fill the topic; some of its statuses, and the bytes of all values."""
    producer = Producer({**connection(settings), "linger.ms": 20, "queue.buffering.max.messages": 200_000})
    topic, headers, size = Naming(settings.topic_prefix).of(topics.STATUS), codec.headers_of(EmailStatus), 0
    sample: list[EmailStatus] = []
    for number in range(count):
        status = a_status(number)
        value = codec.encode(status)
        size += len(value)
        if number % max(1, count // 2000) == 0:
            sample.append(status)
        while True:
            try:
                producer.produce(
                    topic, value, status.id.encode(), partition_in(status.id, settings.partitions), headers=headers
                )
                break
            except BufferError:
                producer.poll(0.1)
        if number % 1000 == 0:
            producer.poll(0)
    assert producer.flush(60) == 0
    return sample, size


@contextmanager
def _updates(settings: Settings, sample: list[EmailStatus]) -> Iterator[None]:
    """Statuses change at an even rate, written by a process of its own, as workers would."""
    writer = multiprocessing.get_context("spawn").Process(target=_keep_changing, args=(settings, sample))
    writer.start()
    time.sleep(3)  # its imports
    try:
        yield
    finally:
        writer.terminate()
        writer.join()


def _keep_changing(settings: Settings, sample: list[EmailStatus]) -> None:
    producer = Producer({**connection(settings), "linger.ms": 1})
    topic, headers = Naming(settings.topic_prefix).of(topics.STATUS), codec.headers_of(EmailStatus)
    fact = Fact(at=datetime.now(UTC), what="open")
    changed = [structs.replace(each, timeline=(*each.timeline, fact)) for each in sample]
    records = [(each.id.encode(), codec.encode(each), partition_in(each.id, settings.partitions)) for each in changed]
    begun, written = time.monotonic(), 0
    while (parent := os.getppid()) != 1 and parent:
        due = int((time.monotonic() - begun) * UPDATES_PER_SECOND)
        for number in range(written, due):
            key, value, partition = records[number % len(records)]
            producer.produce(topic, value, key, partition, headers=headers)
        written = due
        producer.poll(0.005)


if __name__ == "__main__":
    main()
