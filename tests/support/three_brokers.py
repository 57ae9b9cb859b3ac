"""Three Kafka nodes on loopback, as Java processes: what a production cluster does when a machine dies."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from dev.kafka import java
from dev.kafka.java import JavaBroker
from dev.kafka.node import FOR_TESTS, three_nodes
from mailstream.domain.errors import NoKafka
from tests.support.broker import JARS

HEAP = ("-Xmx256m",)
ASK_SECONDS = 2.0


class ThreeBrokers:
    """Replication 3, two of which must have each record. Kill and start the nodes by their id: 1, 2, 3."""

    def __init__(self, brokers: dict[int, JavaBroker]) -> None:
        self._brokers = brokers
        self.bootstrap = ",".join(broker.node.bootstrap for broker in brokers.values())
        self._admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})

    def kill(self, id_: int) -> None:
        """As a kill -9."""
        self._brokers[id_].kill()

    def start(self, *ids: int) -> None:
        """Start these again, all before waiting for any: two of three make a quorum."""
        for id_ in ids:
            self._brokers[id_].start()
        for id_ in ids:
            self._brokers[id_].wait()

    def leaders(self, prefix: str) -> dict[tuple[str, int], int]:
        """Who leads each partition of these topics; -1: nobody. Nothing at all when no node answers."""
        return {place: leader for place, (leader, _) in self._partitions(prefix).items()}

    def is_led_by_others(self, prefix: str, dead: int) -> bool:
        """Whether every partition has a leader again, and another than this one."""
        leaders = self.leaders(prefix).values()
        return bool(leaders) and not {-1, dead} & {*leaders}

    def is_whole(self, prefix: str) -> bool:
        """Whether all three have every record of these topics, and of what Kafka keeps about groups."""
        found = self._partitions(prefix) | self._partitions("__consumer_offsets")
        return bool(found) and all(replicas == 3 for _, replicas in found.values())

    def _partitions(self, prefix: str) -> dict[tuple[str, int], tuple[int, int]]:
        try:
            there = self._admin.list_topics(timeout=ASK_SECONDS).topics
        except KafkaException:
            return {}
        return {
            (name, number): (partition.leader, len(partition.isrs))
            for name, topic in there.items()
            if name.startswith(prefix)
            for number, partition in topic.partitions.items()
        }


@contextmanager
def three_brokers(home: Path) -> Iterator[ThreeBrokers]:
    """A cluster of one's own. Raises NoKafka where there is no Java."""
    if (found := java.find_java()) is None:
        raise NoKafka(f"Three nodes run as Java processes: install Java {java.LEAST_JAVA}+")
    java.fetch_jars(JARS)
    brokers = {
        node.id: JavaBroker(node, home / f"node-{node.id}", java=found, jars=JARS, options=HEAP)
        for node in three_nodes(FOR_TESTS)
    }
    try:
        for broker in brokers.values():
            broker.start()
        for broker in brokers.values():
            broker.wait()
        yield ThreeBrokers(brokers)
    finally:
        for broker in brokers.values():
            broker.kill()  # in order they would wait for a quorum that has gone
        shutil.rmtree(home, ignore_errors=True)
