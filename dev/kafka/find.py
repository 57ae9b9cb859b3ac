"""Find a Kafka, or start one: the broker that was named, else a container, else a Java process. Always a real one."""

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dev.kafka import container, java
from dev.kafka.node import VERSION, Broker, Node, takes_records
from dev.lock import alone
from dev.ports import require_free
from dev.process import end_leftover
from mailstream.domain.errors import NoKafka, NotStarted
from mailstream.kafka import config
from mailstream.settings import Settings

THREE_WAYS = (
    "Set MAILSTREAM_KAFKA_BOOTSTRAP to a broker that runs, or start a container engine that has (or can pull) "
    f"{container.IMAGE}, or install Java {java.LEAST_JAVA}+ and Maven."
)

#: In DATA_DIR: held by whoever runs the broker of this folder.
LOCK = "kafka.lock"


@dataclass(frozen=True, slots=True)
class Found:
    """A Kafka that takes records."""

    bootstrap: str
    title: str  #: for people: which one, run how
    broker: Broker | None  #: None: not ours to stop


def _silent(_: str) -> None:
    """Tell nobody."""


def jars_in(data_dir: Path) -> Path:
    """Where the jars are kept once they are fetched."""
    return data_dir / f"kafka-{VERSION}"


def volume_of(home: Path) -> str:
    """The engine's volume that holds the data of this folder's broker. Not the folder itself: users differ inside."""
    return f"mailstream-kafka-{hashlib.sha256(str(home.absolute()).encode()).hexdigest()[:12]}"


def ways(
    node: Node, home: Path, *, jars: Path, volume: str | None = None, tell: Callable[[str], None] = _silent
) -> Iterator[Broker]:
    """Each way that this machine has to run the node, best first; the one that has data in ``home`` before all.

    ``tell`` hears of what takes long: a first fetch.
    """
    found = java.find_java()
    by_java = java.JavaBroker(node, home, java=found, jars=jars) if found else None
    if by_java and (not java.has_jars(jars)) and shutil.which("mvn") is None:
        by_java = None
    has_data = by_java is not None and by_java.has_data()
    if by_java and has_data:
        java.fetch_jars(jars)
        yield by_java
    with container.engine() as engine:
        image = engine and container.image_there(engine)
        if engine and not image:
            tell(f"Pulling {container.IMAGE} …")
            image = container.pull(engine)
    if image:
        yield container.ContainerBroker(node, image, volume=volume)
    if by_java and not has_data:
        if not java.has_jars(jars):
            tell(f"Fetching Kafka {VERSION} by Maven, once …")
        java.fetch_jars(jars)
        yield by_java


def start(
    node: Node, home: Path, *, jars: Path, volume: str | None = None, tell: Callable[[str], None] = _silent
) -> Broker:
    """Start the node in the first way that works. Raises NoKafka, which names the three ways."""
    reasons = []
    try:
        for broker in ways(node, home, jars=jars, volume=volume, tell=tell):
            try:
                broker.start()
                broker.wait()
            except NotStarted as error:
                reasons.append(str(error))
                broker.close()
            except BaseException:  # a Ctrl-C as well: what was started is stopped
                broker.close()
                raise
            else:
                return broker
    except NoKafka as error:
        reasons.append(str(error))
    raise NoKafka("\n".join(["No Kafka could be found or started. " + THREE_WAYS, *reasons]))


@contextlib.contextmanager
def kafka(settings: Settings, tell: Callable[[str], None] = _silent) -> Iterator[Found]:
    """The Kafka of this folder, for the length of the block: found, or started on loopback and stopped at the end.

    Its data survive in ``DATA_DIR``; a broker that a kill -9 of its parent left over is ended first.
    """
    if "kafka_bootstrap" in settings.model_fields_set:
        if not takes_records(settings.kafka_bootstrap, connection=config.connection(settings)):
            raise NoKafka(
                f"No broker answers at {settings.kafka_bootstrap}, which MAILSTREAM_KAFKA_BOOTSTRAP names. "
                "Nothing was started. Start it, or unset the variable to have one started here."
            )
        yield Found(settings.kafka_bootstrap, "Kafka as MAILSTREAM_KAFKA_BOOTSTRAP names it", None)
        return
    data_dir = Path(settings.data_dir)
    home, node = data_dir / "kafka", Node(port=settings.dev_kafka_port)
    with alone(data_dir / LOCK) as is_first:
        if not is_first:
            if not takes_records(node.bootstrap):
                raise NoKafka(
                    f"Another mailstream runs the Kafka of {home}, and not on port {node.port}. Stop it first."
                )
            yield Found(node.bootstrap, "Kafka of another mailstream in this folder", None)
            return
        end_leftover(home / "pid")
        with container.engine() as engine:
            if engine:
                container.remove_leftovers(engine)
        require_free(node.port, "Kafka", "MAILSTREAM_DEV_KAFKA_PORT")
        broker = start(node, home, jars=jars_in(data_dir), volume=volume_of(home), tell=tell)
        try:
            yield Found(node.bootstrap, broker.title, broker)
        finally:
            broker.close()


def forget(settings: Settings) -> None:
    """Remove the data of this folder's broker. Raises NoKafka while it runs."""
    data_dir = Path(settings.data_dir)
    with alone(data_dir / LOCK) as is_first:
        if not is_first:
            raise NoKafka("Another mailstream runs the Kafka of this folder. Nothing was removed. Stop it first.")
        home = data_dir / "kafka"
        end_leftover(home / "pid")
        shutil.rmtree(home, ignore_errors=True)
        with container.engine() as engine:
            if engine:
                container.remove_leftovers(engine)
                container.remove_volume(engine, volume_of(home))
        (data_dir / LOCK).unlink()
