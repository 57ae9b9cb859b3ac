"""What other teams do to us: records that are none, events said ten times, all events said again, and our own deaths."""

import asyncio
import json
import random
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka import Producer

from mailstream.domain import codec, topics
from mailstream.domain.dead_letter import Reason
from mailstream.domain.topics import Naming
from mailstream.kafka.config import connection
from mailstream.kafka.reader import Reader
from mailstream.settings import Settings
from tests.support.domain_events import TEMPLATES, as_bytes, cloud_event, shipped
from tests.support.eventually import eventually
from tests.support.mail_system import MailSystem, an_address, twice
from tests.support.poison import POISONS, STRANGE, good
from tests.support.processes import Programs
from tests.support.trigger_bench import Bench
from tests.support.whole_topic import whole_topic

NEIGHBOUR_SECONDS = 1.0
ORDERS, TIMES = 150, 10


@pytest.mark.long  # judges by the clock: not beside other tests
async def test_poison_becomes_dead_letters_and_delays_nobody(programs: Programs, settings: Settings) -> None:
    """One in twenty good records; every kind of the corpus, and what only looks like poison, while mails go out."""
    system = MailSystem(programs, settings, send_gap=0.2)  # what is judged is accept, not the speed of calls
    (worker,) = system.add_workers(1)
    name = Naming(settings.topic_prefix).of(topics.REQUESTED)
    producer = Producer({**connection(settings), "partitioner": "murmur2_random", "message.max.bytes": 2_000_000})
    neighbours = set()
    for number, poison in enumerate((*POISONS, *STRANGE)):
        for n in range(19):
            to = an_address()
            neighbours.add(f"{number}-{n}")
            producer.produce(name, as_bytes(good(to={"email": to}, reference=f"{number}-{n}")), to.encode())
        producer.produce(
            name, poison.value, poison.key, poison.partition(settings.partitions), headers=dict(poison.headers)
        )
        producer.poll(0)
        await asyncio.sleep(0.015)  # about a thousand a second: a queue would hide who waited for whom
    assert producer.flush(10) == 0

    await eventually(
        lambda: neighbours <= queued_at(settings).keys() and len(list(whole_topic(settings, topics.REJECTED))) >= len(POISONS),
        within_seconds=30, waiting_for="every neighbour to be accepted", every_seconds=0.5,
    )  # fmt: skip
    letters = whole_topic(settings, topics.REJECTED)
    found = Counter(
        (letter.value(), Reason(dict(letter.headers())["mailstream-reason"].decode())) for letter in letters
    )
    planted = Counter(
        (poison.value[: topics.MAX_DEAD_LETTER_BYTES], poison.reason) for poison in POISONS if poison.value is not None
    )
    assert found == planted

    asked_at = {}
    for record in whole_topic(settings, topics.REQUESTED):
        if (reference := _reference(record.value())) in neighbours:
            asked_at[reference] = record.timestamp()[1] / 1000
    queued = queued_at(settings)
    slowest = max(queued[reference] - asked_at[reference] for reference in neighbours)
    print(f"{len(POISONS)} poisons among {len(neighbours)} neighbours, the slowest queued after {slowest:.3f} s")
    assert slowest <= NEIGHBOUR_SECONDS
    assert worker.is_running()
    log = worker.last_lines(100_000)
    assert log.count('"worker starts"') == log.count('"partitions loaded"') == 1, "it left its group, or restarted"
    assert not twice(system.ledger())


def queued_at(settings: Settings) -> dict[str, float]:
    """When the first status of each reference was in the log, seconds since 1970."""
    found: dict[str, float] = {}
    for record in whole_topic(settings, topics.STATUS):
        status = codec.decode_status(record.value() or b"")
        found.setdefault(status.reference or "", record.timestamp()[1] / 1000)
    return found


def _reference(value: bytes | None) -> str | None:
    try:
        found = json.loads(value or b"")
        return str(found["reference"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


async def test_events_said_ten_times_and_all_again_send_every_mail_once_though_the_worker_dies(
    programs: Programs, settings: Settings, tmp_path: Path
) -> None:
    """The mails wait some seconds, so that the worker's death meets events in work and no call."""
    rules = tmp_path / "triggers.yaml"
    rule = {"name": "shipped", "topic": "shop.orders", "type": "order.shipped", "to": "data.customer",
            "template": "order-shipped", "delay": "6s",
            "data": {"order": "data.order", "name": "data.customer.name", "parcel": "data.parcel"}}  # fmt: skip
    rules.write_text(json.dumps({"rules": [rule]}))
    bench = Bench(settings)
    system = MailSystem(
        programs, settings, send_gap=0.0, session_timeout=2, triggers_file=str(rules), templates_dir=str(TEMPLATES)
    )
    (worker,) = system.add_workers(1)
    now = datetime.now(UTC).isoformat()
    events = [
        as_bytes(cloud_event(shipped(str(number), an_address()), id=f"{number}-shipped", time=now))
        for number in range(ORDERS)
    ]
    stream = events * TIMES
    random.Random(6).shuffle(stream)

    def say(events: list[bytes]) -> None:
        for number, event in enumerate(events):
            bench.producer.produce(bench.name("shop.orders"), event, str(number % 7).encode())
        assert bench.producer.flush(10) == 0

    say(stream)
    await eventually(lambda: requests(settings) > 0, within_seconds=20, waiting_for="the first requests")
    worker.kill()
    asked = requests(settings)
    assert 0 < asked < len(stream), f"{asked} of {len(stream)}: it did not die in the midst of them"
    system.add_workers(1)
    await eventually(lambda: len(system.ledger()) >= ORDERS, within_seconds=40, waiting_for="a mail for each order")

    say(events)  # another team begins at the beginning
    again = asked + len(stream) + ORDERS
    begun = time.monotonic()
    await eventually(
        lambda: requests(settings) >= len(stream) + ORDERS, within_seconds=20, waiting_for="all events to be read"
    )
    await asyncio.sleep(1.0)
    print(
        f"{asked} asked before the kill; {requests(settings)} (at most {again}) in all; {time.monotonic() - begun:.1f} s"
    )
    calls = system.ledger()
    assert len(calls) == ORDERS
    assert len({call["to"] for call in calls}) == ORDERS
    assert not list(whole_topic(settings, topics.REJECTED))


def requests(settings: Settings) -> int:
    """How many mails the rules have asked for, repeats and all."""
    name = Naming(settings.topic_prefix).of(topics.REQUESTED)
    with Reader(settings) as reader:
        return sum(len(reader.span(name, partition)) for partition in range(settings.partitions))
