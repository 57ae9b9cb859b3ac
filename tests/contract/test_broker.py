"""Each way to run a Kafka node does the same: it keeps its port and its records, whatever happens to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from dev.kafka import container, java
from dev.kafka.node import Broker, Node, three_nodes
from tests.support.broker import JARS, a_node


def by_java(home: Path, node: Node | None = None) -> Broker:
    if (found := java.find_java()) is None:
        pytest.skip(f"No Java {java.LEAST_JAVA}+: install one to run this")
    java.fetch_jars(JARS)
    return java.JavaBroker(node or a_node(), home, java=found, jars=JARS)


def by_container(home: Path) -> Broker:
    with container.engine() as engine:
        image = engine and container.image_there(engine)
    if image is None:
        pytest.skip(f"No container engine with {container.IMAGE}: start one, or run dev/kafka/build-image.sh")
    return container.ContainerBroker(a_node(), image)


@pytest.fixture(params=[by_java, by_container])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Broker]:
    made: Broker = request.param(tmp_path / "kafka")
    yield made
    made.close()


def append(bootstrap: str, value: bytes, seconds: float = 5.0) -> bool:
    """Whether the record was acknowledged."""
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "message.timeout.ms": int(seconds * 1000)})
    answers = []
    producer.produce("log", value, on_delivery=lambda error, _: answers.append(error))
    producer.flush(seconds + 1)
    return bool(answers) and answers[0] is None


def everything(bootstrap: str) -> list[bytes | None]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "enable.partition.eof": True})
    consumer.assign([TopicPartition("log", 0, 0)])
    values: list[bytes | None] = []
    while (message := consumer.poll(10.0)) and not message.error():
        values.append(message.value())
    consumer.close()
    return values


def create_log(bootstrap: str, replicas: int = 1) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic("log", 1, replicas)])["log"].result(10)


def test_records_and_port_survive_a_stop_a_kill_and_a_pause(broker: Broker) -> None:
    broker.start()
    broker.wait()
    create_log(broker.node.bootstrap)
    assert append(broker.node.bootstrap, b"before the stop")

    broker.stop()
    assert not broker.is_running()
    broker.start()
    broker.wait()
    assert append(broker.node.bootstrap, b"before the kill")

    broker.kill()
    assert not broker.is_running()
    assert not append(broker.node.bootstrap, b"to nobody", seconds=1)
    broker.start()
    broker.wait()

    broker.pause()
    assert broker.is_running()
    assert not append(broker.node.bootstrap, b"to nobody", seconds=1)
    broker.resume()
    assert append(broker.node.bootstrap, b"after the pause")

    assert [value for value in everything(broker.node.bootstrap) if value != b"to nobody"] == [
        b"before the stop",
        b"before the kill",
        b"after the pause",
    ]


def test_a_topic_is_never_made_by_asking_for_it(broker: Broker) -> None:
    broker.start()
    broker.wait()

    assert not append(broker.node.bootstrap, b"nowhere", seconds=2)

    assert "log" not in AdminClient({"bootstrap.servers": broker.node.bootstrap}).list_topics(timeout=5).topics


@pytest.mark.long
def test_three_nodes_keep_taking_records_when_the_leader_is_killed(tmp_path: Path) -> None:
    brokers = [by_java(tmp_path / f"node-{node.id}", node) for node in three_nodes()]
    try:
        for broker in brokers:
            broker.start()
        for broker in brokers:
            broker.wait()
        bootstrap = ",".join(broker.node.bootstrap for broker in brokers)
        create_log(bootstrap, replicas=3)
        assert append(bootstrap, b"before the kill")

        leader = AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=5).topics["log"].partitions[0].leader
        brokers[leader - 1].kill()

        assert append(bootstrap, b"after the kill", seconds=20)
        assert everything(bootstrap) == [b"before the kill", b"after the kill"]
    finally:
        for broker in brokers:
            broker.kill()  # in order they would wait for a quorum that has gone
