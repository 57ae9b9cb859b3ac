"""The Kafka of the tests: always a real one, found in the order that ``mailstream dev kafka`` has too."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dev.kafka import container, find, java
from dev.kafka.node import FOR_TESTS, VERSION, Broker, Node, Proxied, takes_records
from dev.ports import free_port
from mailstream.domain.errors import NoKafka

ROOT = Path(__file__).parents[2]
#: Fetched once per checkout, for tests and `make run` alike.
JARS = find.jars_in(ROOT / ".mailstream")
BOOTSTRAP_VARIABLE = "MAILSTREAM_KAFKA_BOOTSTRAP"
GIVEN = os.environ.get(BOOTSTRAP_VARIABLE)


@dataclass(frozen=True, slots=True)
class Kafka:
    """A broker that takes records."""

    bootstrap: str
    title: str
    broker: Broker | None = None  #: to kill and pause; None: it is not ours
    proxied: Proxied | None = None  #: a listener for clients behind a proxy; None: it has none


def expected() -> str:
    """Which Kafka the tests will use, for the header: asks, and starts or fetches nothing."""
    if GIVEN:
        return f"the one at {GIVEN} ({BOOTSTRAP_VARIABLE})"
    with container.engine() as engine:
        if engine and (image := container.image_there(engine)):
            return f"{VERSION} in a container of {image} (testcontainers)"
        if engine:
            return f"{VERSION} in a container if {container.IMAGE} can be pulled, else as a Java process"
    if java.find_java():
        return f"{VERSION} as a Java process (no container engine answers)"
    return f"none. {find.THREE_WAYS}"


def can_start() -> bool:
    """Whether this machine can run a Kafka of our own, whatever broker was named."""
    with container.engine() as engine:
        return engine is not None or java.find_java() is not None


def a_node() -> Node:
    """A node for tests, with a second listener for a proxy."""
    return Node(port=free_port(), proxied=Proxied(free_port(), free_port()), extra=FOR_TESTS)


@contextmanager
def own_kafka(home: Path) -> Iterator[Kafka]:
    """A broker of one's own, to kill, pause and start again. Raises NoKafka."""
    node = a_node()
    broker = find.start(node, home, jars=JARS)
    try:
        yield Kafka(node.bootstrap, broker.title, broker, node.proxied)
    finally:
        broker.close()


@contextmanager
def shared_kafka(home: Path) -> Iterator[Kafka]:
    """The broker of the whole test session: the one that is named, else our own. Raises NoKafka."""
    if GIVEN:
        if not takes_records(GIVEN):
            raise NoKafka(f"No broker answers at {GIVEN}, which {BOOTSTRAP_VARIABLE} names.")
        yield Kafka(GIVEN, f"Kafka at {GIVEN}")
        return
    with own_kafka(home) as kafka:
        yield kafka
