"""Status changes on a real Kafka reach an endpoint: signed, in order, at least once, through its outages."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from standardwebhooks import Webhook

from mailstream.domain import codec, topics
from mailstream.domain.status import EmailStatus, Status, rank_of
from mailstream.kafka.config import connection
from mailstream.settings import Settings
from streams.webhooks.call import Caller
from streams.webhooks.deliver import Delivery
from streams.webhooks.endpoints import Endpoint
from tests.support import golden
from tests.support.eventually import eventually
from tests.support.system import as_environment
from tests.support.trigger_bench import HurriedClock
from tests.unit.streams.webhooks.test_endpoints import SECRET

BASE = golden.RECORDS["email.status.v1/sent"]


class Crm:
    """An endpoint that checks each signature, and answers as it is told."""

    def __init__(self) -> None:
        self.codes: list[int] = []  # for the next calls; then 204
        self.tries: list[str] = []
        self.taken: list[tuple[str, str]] = []
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        said = Webhook(SECRET).verify(body, dict(request.headers))
        notice = request.headers["webhook-id"]
        self.tries.append(notice)
        code = self.codes.pop(0) if self.codes else 204
        if code < 300:
            self.taken.append((said["data"]["id"], said["data"]["status"]))
        return web.Response(status=code)


@pytest.fixture
async def crm() -> AsyncIterator[Crm]:
    crm = Crm()
    app = web.Application()
    app.router.add_post("/", crm.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    crm.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    yield crm
    await runner.cleanup()


class Statuses:
    """Writes ``email.status`` as a worker does."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.topic = settings.topic_prefix + topics.STATUS.name
        self._producer = Producer(connection(settings))

    def say(self, number: int, status: Status, tenant: str = "shop") -> None:
        assert isinstance(BASE, EmailStatus)
        record = msgspec.structs.replace(
            BASE, id=f"em_00000000_{number}", status=status, rank=rank_of(status, 1), tenant=tenant
        )
        self._producer.produce(self.topic, codec.encode(record), record.id.encode(), number % self.settings.partitions)
        assert self._producer.flush(10) == 0

    async def until_begun(self, group: str) -> None:
        reader = Consumer({**connection(self.settings), "group.id": self.settings.topic_prefix + group})
        parts = [TopicPartition(self.topic, partition) for partition in range(self.settings.partitions)]

        async def stands() -> bool:
            try:
                return all(part.offset >= 0 for part in await asyncio.to_thread(reader.committed, parts, 5))
            except KafkaException as error:
                if error.args[0].code() != KafkaError.NOT_COORDINATOR:
                    raise
                return False  # it is just being found

        await eventually(stands, within_seconds=20, waiting_for="the first commit")
        reader.close()


@pytest.fixture
def statuses(settings: Settings) -> Statuses:
    return Statuses(settings)


@asynccontextmanager
async def telling(statuses: Statuses, crm: Crm) -> AsyncIterator[Delivery]:
    endpoint = Endpoint(name="crm", url=crm.url, secrets=["crm"], tenant="shop")
    caller, failures = Caller(is_dev=True), []
    delivery = Delivery(statuses.settings, endpoint, [Webhook(SECRET)], caller, HurriedClock(), failures.append)
    await statuses.until_begun("mailstream-webhooks-crm")
    yield delivery
    await delivery.close()
    await caller.close()
    assert failures == []


async def test_changes_are_told_in_order_and_only_those_that_are_wanted(statuses: Statuses, crm: Crm) -> None:
    statuses.say(1, Status.SENT)  # before the endpoint was there

    async with telling(statuses, crm):
        statuses.say(2, Status.QUEUED)
        statuses.say(2, Status.SENT)
        statuses.say(3, Status.SENT, tenant="other")
        statuses.say(2, Status.DELIVERED)
        await eventually(lambda: len(crm.taken) >= 2, waiting_for="two notices")

    assert crm.taken == [("em_00000000_2", "SENT"), ("em_00000000_2", "DELIVERED")]


async def test_a_status_that_is_written_again_is_told_once(statuses: Statuses, crm: Crm) -> None:
    async with telling(statuses, crm):
        for _ in range(3):
            statuses.say(1, Status.SENT)
        statuses.say(1, Status.DELIVERED)
        await eventually(lambda: len(crm.taken) >= 2, waiting_for="two notices")

    assert len(crm.tries) == 2


async def test_an_outage_delays_notices_and_loses_none(statuses: Statuses, crm: Crm) -> None:
    crm.codes = [500, 429, 302, 401]

    async with telling(statuses, crm) as delivery:
        delivery._clock = Impatient()  # the waits between tries are seconds and minutes
        statuses.say(1, Status.SENT)
        statuses.say(1, Status.DELIVERED)
        await eventually(lambda: len(crm.taken) == 2, waiting_for="two notices")

    assert crm.taken == [("em_00000000_1", "SENT"), ("em_00000000_1", "DELIVERED")]
    assert len(set(crm.tries[:5])) == 1, "the same id each time"


class Impatient(HurriedClock):
    """Its seconds are long."""

    def monotonic(self) -> float:
        return super().monotonic() * 1000


async def test_a_notice_that_is_refused_is_given_up_and_the_next_one_told(statuses: Statuses, crm: Crm) -> None:
    crm.codes = [422] * 5

    async with telling(statuses, crm) as delivery:
        delivery._clock = Impatient()
        statuses.say(1, Status.SENT)
        statuses.say(1, Status.DELIVERED)
        await eventually(lambda: len(crm.taken) == 1, waiting_for="the next notice")

    assert crm.taken == [("em_00000000_1", "DELIVERED")]


async def test_an_endpoint_that_is_gone_is_told_nothing_more(statuses: Statuses, crm: Crm) -> None:
    crm.codes = [410]

    async with telling(statuses, crm) as delivery:
        statuses.say(1, Status.SENT)
        await eventually(lambda: delivery.is_gone, waiting_for="the answer 410")
        statuses.say(2, Status.SENT)
        statuses.say(2, Status.DELIVERED)

    assert len(crm.tries) == 1


async def test_what_was_not_taken_is_told_after_a_restart(statuses: Statuses, crm: Crm) -> None:
    crm.codes = [500] * 1000
    async with telling(statuses, crm):
        statuses.say(1, Status.SENT)
        await eventually(lambda: crm.tries, waiting_for="a first try")

    crm.codes = []
    async with telling(statuses, crm):
        await eventually(lambda: crm.taken, waiting_for="the notice")

    assert crm.taken == [("em_00000000_1", "SENT")]


async def test_the_process_tells_endpoints_and_ends_with_0(statuses: Statuses, crm: Crm, tmp_path: Path) -> None:
    (tmp_path / "crm").write_text(SECRET)
    file = tmp_path / "webhooks.yaml"
    file.write_text(f"endpoints: [{{name: crm, url: '{crm.url}', secrets: [crm], tenant: shop}}]")
    files = {"MAILSTREAM_WEBHOOKS_FILE": str(file), "MAILSTREAM_SECRETS_DIR": str(tmp_path)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli.main", "webhooks", "run", env=as_environment(statuses.settings) | files
    )

    await statuses.until_begun("mailstream-webhooks-crm")
    statuses.say(1, Status.SENT)
    await eventually(lambda: crm.taken, waiting_for="the notice")
    process.send_signal(signal.SIGTERM)

    async with asyncio.timeout(20):
        assert await process.wait() == 0
