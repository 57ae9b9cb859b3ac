"""The proxy breaks connections to a real broker, and nothing else does."""

import contextlib
import gc
import socket
import time

from confluent_kafka import Producer
from confluent_kafka.cimpl import NewTopic

from dev.ports import free_port
from mailstream.kafka import config
from mailstream.kafka.tail import End, Tail
from mailstream.settings import Settings
from tests.support.broker import Kafka
from tests.support.eventually import eventually
from tests.support.proxy import HOST, Proxy, Way
from tests.support.system import some_settings

SECONDS = 2.0


def behind(proxy: Proxy) -> Settings:
    return some_settings(f"127.0.0.1:{proxy.port}")


def append(settings: Settings, value: bytes) -> bool:
    """Whether the record was acknowledged in time."""
    producer = Producer({**config.connection(settings), "message.timeout.ms": int(SECONDS * 1000), "linger.ms": 0})
    answers: list[object] = []
    producer.produce(settings.topic_prefix + "log", value, on_delivery=lambda error, _: answers.append(error))
    producer.flush(SECONDS + 5)
    return bool(answers) and answers[0] is None


def create_log(settings: Settings) -> None:
    admin = config.admin(settings)
    admin.create_topics([NewTopic(settings.topic_prefix + "log", 1, 1)])[settings.topic_prefix + "log"].result(10)


async def everything(settings: Settings) -> list[bytes | None]:
    """All values of the log, read past the proxy."""
    values: list[bytes | None] = []
    ends: list[End] = []
    failures: list[Exception] = []

    def on_batch(batch: object) -> None:
        for entry in batch:  # type: ignore[attr-defined]
            ends.append(entry) if isinstance(entry, End) else values.append(entry.value())

    tail = Tail(settings, on_batch, name="everything", failed=failures.append)
    await tail.follow([(settings.topic_prefix + "log", 0, 0)])
    await eventually(lambda: ends, waiting_for="the end of the log")
    await tail.close()
    assert not failures
    return values


def test_a_client_behind_the_proxy_stays_behind_it(kafka_proxy: Proxy) -> None:
    settings = behind(kafka_proxy)
    create_log(settings)
    before = kafka_proxy.passed[Way.REQUESTS]

    assert append(settings, b"x" * 10_000)

    assert kafka_proxy.passed[Way.REQUESTS] - before > 10_000


async def test_nothing_passes_a_cut_until_it_is_mended(kafka_proxy: Proxy, proxied_kafka: Kafka) -> None:
    settings = behind(kafka_proxy)
    create_log(settings)

    kafka_proxy.cut()
    assert not append(settings, b"into the cut")
    kafka_proxy.mend()
    assert append(settings, b"after it")

    direct = settings.model_copy(update={"kafka_bootstrap": proxied_kafka.bootstrap})
    assert await everything(direct) == [b"after it"]


async def test_a_record_whose_answer_is_dropped_is_in_the_log_all_the_same(
    kafka_proxy: Proxy, proxied_kafka: Kafka
) -> None:
    settings = behind(kafka_proxy)
    create_log(settings)
    producer = Producer({**config.connection(settings), "message.timeout.ms": int(SECONDS * 1000), "linger.ms": 0})
    answers: list[object] = []
    producer.produce(settings.topic_prefix + "log", b"heard")  # connected, so that only the produce is left
    producer.flush(SECONDS)

    kafka_proxy.drop(Way.ANSWERS)
    producer.produce(settings.topic_prefix + "log", b"unheard", on_delivery=lambda error, _: answers.append(error))
    producer.flush(SECONDS + 5)

    assert answers[0] is not None
    assert kafka_proxy.lost[Way.ANSWERS] > 0
    direct = settings.model_copy(update={"kafka_bootstrap": proxied_kafka.bootstrap})
    assert await everything(direct) == [b"heard", b"unheard"]


def test_a_delay_holds_each_answer_back(kafka_proxy: Proxy) -> None:
    settings = behind(kafka_proxy)
    create_log(settings)
    admin = config.admin(settings)
    admin.list_topics(timeout=5)
    kafka_proxy.delay(0.3, Way.ANSWERS)

    started = time.monotonic()
    admin.list_topics(timeout=5)

    assert time.monotonic() - started >= 0.3


def test_whoever_connects_while_it_closes_leaves_no_socket_open() -> None:
    with socket.create_server((HOST, 0)) as server, contextlib.ExitStack() as clients:
        for _ in range(30):
            with Proxy(free_port(), server.getsockname()[1]) as proxy:
                for _ in range(3):
                    clients.enter_context(socket.create_connection((HOST, proxy.port)))
    gc.collect()  # what is left open warns now, and a warning fails the test
