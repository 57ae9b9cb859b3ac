"""What the first users would try: calls that fail, an emulator that is down, records that are none, dead workers."""

import asyncio
import time

import httpx

from mailstream.domain import topics
from mailstream.domain.topics import Naming
from mailstream.kafka.producer import Publisher
from mailstream.settings import Settings
from tests.support.broker import Kafka
from tests.support.eventually import eventually
from tests.support.mail_system import KEY, MailSystem, an_address, twice
from tests.support.processes import Programs
from tests.support.system import some_settings, topics_of


async def test_each_bad_mail_ends_in_a_state_that_says_why_and_the_next_ones_go_on(
    programs: Programs, settings: Settings
) -> None:
    system = MailSystem(programs, settings, send_gap=0.05).start()
    naming, publisher = Naming(settings.topic_prefix), Publisher(system.settings)
    for junk in (b"no json", b'{"to": {"email": "nobody"}}', b'{"to": 7}', b"\xff\xfe", b"[]"):
        await publisher.publish(naming.of(topics.REQUESTED), junk, key=b"k")
    await publisher.close()

    refused = system.ask("status-400@example.com")
    lost = system.ask("reset@example.com")
    good = [system.ask() for _ in range(5)]

    await system.all_have(good, "SENT", within_seconds=20)
    await system.all_have([refused], "FAILED", within_seconds=10)
    await system.all_have([lost], "HELD", within_seconds=10)
    assert system.status(refused)["provider"]["code"] == 400
    assert system.status(refused)["provider"]["reason"]
    metrics = httpx.get(f"{system.workers[0].url}/metrics").text
    assert 'mailstream_dead_letters_total{reason="NOT_JSON"} 2.0' in metrics
    assert 'mailstream_dead_letters_total{reason="BAD_ADDRESS"} 1.0' in metrics
    assert 'mailstream_dead_letters_total{reason="BAD_SHAPE"} 2.0' in metrics


async def test_a_provider_that_is_down_delays_mails_and_loses_none(programs: Programs, settings: Settings) -> None:
    system = MailSystem(programs, settings, send_gap=0.05, retry_delays=(1.0,) * 30).start()
    system.emulator.stop()
    ids = [system.ask() for _ in range(5)]
    await system.all_have(ids, "RETRYING", within_seconds=15)

    system.emulator.start()
    system.emulator.ready()

    await system.all_have(ids, "SENT", within_seconds=20)
    assert not twice(system.ledger())


async def test_a_worker_that_is_killed_while_a_hundred_mails_wait_loses_none_and_doubles_none(
    programs: Programs, settings: Settings
) -> None:
    system = MailSystem(programs, settings, send_gap=0.1, session_timeout=6)
    system.order(latency_seconds=1.0)
    ids = await system.publish(100)
    system.start()
    await system.accepted(20, within_seconds=30)

    system.workers[0].kill()
    system.order(latency_seconds=0.0)
    system.add_workers(1)

    await eventually(lambda: len({c["id"] for c in system.ledger()}) >= 85, within_seconds=60, waiting_for="the rest")
    await eventually(
        lambda: all(system.status(id_)["status"] in ("SENT", "HELD") for id_ in ids),
        within_seconds=60,
        waiting_for="every mail SENT or HELD",
    )
    calls = system.ledger()
    held = {id_ for id_ in ids if system.status(id_)["status"] == "HELD"}
    assert not twice(calls)
    assert 1 <= len(held) <= 12, "calls of one second, ten a second: about ten were under way"
    assert {call["id"] for call in calls} | held == set(ids)


async def test_a_broker_that_stops_for_twenty_seconds_stops_calls_and_all_goes_on_by_itself(
    own_kafka: Kafka, programs: Programs
) -> None:
    assert own_kafka.broker is not None
    settings = some_settings(own_kafka.bootstrap, send_gap=0.2, session_timeout=10)
    with topics_of(settings):
        system = MailSystem(programs, settings).start()
        ids = await system.publish(150)
        await system.accepted(10, within_seconds=30)

        own_kafka.broker.pause()
        await asyncio.sleep(6)  # what was claimed before may still be called; then claims cannot be written
        before = len(system.ledger())
        began = time.monotonic()
        answer = httpx.post(
            f"{system.settings.sendgrid_url.replace(str(system.emulator.port), str(system.api.port))}/v1/emails",  # type: ignore[union-attr]
            json={"to": an_address(), "subject": "s", "text": "t"},
            headers=KEY,
            timeout=10,
        )
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        assert time.monotonic() - began < 4
        await asyncio.sleep(max(0.0, 14 - (time.monotonic() - began)))
        assert len(system.ledger()) == before, "nothing is called while claims cannot be written"
        own_kafka.broker.resume()

        await system.all_have(ids, "SENT", within_seconds=90)
        assert not twice(system.ledger())
        assert system.workers[0].is_running()
