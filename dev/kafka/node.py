"""What one Kafka node is told, however it is run; and what every way to run one can do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from dev.ports import free_port

VERSION = "4.3.1"
HOST = "127.0.0.1"
#: Of every node that we start: storage that was formatted once is found again.
CLUSTER_ID = "bWFpbHN0cmVhbS1kZXYtMQ"
#: A start takes two to five seconds; a machine at its limits gets ten times that.
START_SECONDS = 40.0

#: One node can hold everything, and a group need not wait for members that do not come.
ALONE: Mapping[str, str] = {
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
}
#: A killed leader is noticed, and a killed node taken back, within seconds.
OF_THREE: Mapping[str, str] = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "controller.quorum.fetch.timeout.ms": "1000",
    "controller.quorum.election.timeout.ms": "500",
}
COMMON: Mapping[str, str] = {
    "process.roles": "broker,controller",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "inter.broker.listener.name": "PLAINTEXT",
    "controller.listener.names": "CONTROLLER",
    "auto.create.topics.enable": "false",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    # a node that was killed is refused until its old session ends: 9 s by default
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "500",
}
#: A dead worker is noticed in a second or two, and compaction can be watched.
FOR_TESTS: Mapping[str, str] = {"group.min.session.timeout.ms": "1000", "log.cleaner.backoff.ms": "500"}


class Proxied(NamedTuple):
    """A second listener, for clients behind a TCP proxy: it names the proxy's port as its own.

    Without that, a client goes round the proxy after its first metadata answer.
    """

    port: int  #: where the node listens
    advertised: int  #: where the proxy listens


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node on loopback, broker and controller in one. Its ports stay the same over a restart."""

    port: int
    controller_port: int = field(default_factory=free_port)
    id: int = 1
    voters: Mapping[int, int] = field(default_factory=dict)  #: controller port of each node id; empty: alone
    proxied: Proxied | None = None
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def bootstrap(self) -> str:
        """Where clients find it."""
        return f"{HOST}:{self.port}"

    def properties(self, data: str, *, bind: str = HOST) -> dict[str, str]:
        """Everything that ``server.properties`` needs; ``data`` is the folder of its log."""
        voters = self.voters or {self.id: self.controller_port}
        listeners = {"PLAINTEXT": self.port, "CONTROLLER": self.controller_port}
        advertised = {"PLAINTEXT": self.port}
        if self.proxied:
            listeners["PROXIED"], advertised["PROXIED"] = self.proxied
        return {
            **COMMON,
            **(ALONE if len(voters) < 3 else OF_THREE),
            "node.id": str(self.id),
            "listeners": ",".join(f"{name}://{bind}:{port}" for name, port in listeners.items()),
            "advertised.listeners": ",".join(f"{name}://{HOST}:{port}" for name, port in advertised.items()),
            "controller.quorum.voters": ",".join(f"{id_}@{HOST}:{port}" for id_, port in voters.items()),
            "log.dirs": data,
            **self.extra,
        }


def three_nodes(extra: Mapping[str, str] | None = None) -> list[Node]:
    """Three nodes that form one cluster: start all before waiting for any."""
    voters = {id_: free_port() for id_ in (1, 2, 3)}
    return [
        Node(id=id_, port=free_port(), controller_port=port, voters=voters, extra=extra or {})
        for id_, port in voters.items()
    ]


class Broker(Protocol):
    """A real Kafka node that we run. Start and kill as often as you like: ports and data stay."""

    node: Node

    @property
    def title(self) -> str:
        """For people: which Kafka, run how."""

    def start(self) -> None:
        """Start it; it takes records from ``wait`` on. Raises NotStarted."""

    def wait(self) -> None:
        """Wait until it takes records. Raises NotStarted."""

    def is_running(self) -> bool:
        """Whether it runs; a paused one does."""

    def stop(self) -> None:
        """Stop in order."""

    def kill(self) -> None:
        """As a kill -9."""

    def pause(self) -> None:
        """As a SIGSTOP: connections stay open and nobody answers."""

    def resume(self) -> None:
        """Go on after a pause."""

    def close(self) -> None:
        """Stop for good and leave no data that only tests needed."""


def takes_records(bootstrap: str, node_id: int | None = None, connection: Mapping[str, Any] | None = None) -> bool:
    """Whether a broker answers there, and (when an id is given) that one is not fenced off by its old session.

    ``connection``: further settings of the client, for a broker that wants to know who asks.
    """
    quick: dict[str, Any] = {"bootstrap.servers": bootstrap, "log_level": 0, "socket.connection.setup.timeout.ms": 1000}
    try:
        brokers = AdminClient({**(connection or {}), **quick}).list_topics(timeout=1.0).brokers
    except KafkaException:
        return False
    return bool(brokers) if node_id is None else node_id in brokers
