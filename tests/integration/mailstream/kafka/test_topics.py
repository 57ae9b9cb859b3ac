"""Topics on a real broker: what is missing is made as emails need it, what differs is named and left alone."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from confluent_kafka.cimpl import NewTopic

from mailstream.domain import topics
from mailstream.domain.errors import NoKafka, TopicsDiffer
from mailstream.domain.topics import Naming, Topic
from mailstream.kafka import admin as check
from mailstream.kafka import config as client
from mailstream.settings import Settings
from tests.support.broker import Kafka
from tests.support.eventually import eventually_here
from tests.support.system import PARTITIONS, some_settings, topics_of


@pytest.fixture
def bare(kafka: Kafka) -> Iterator[Settings]:
    """A system without topics; what is made under its prefix goes when the test ends."""
    settings = some_settings(kafka.bootstrap)
    yield settings
    admin = client.admin(settings)
    mine = [name for name in admin.list_topics(timeout=10).topics if name.startswith(settings.topic_prefix)]
    for begun in (admin.delete_topics(mine, operation_timeout=0) if mine else {}).values():
        begun.result()


def make(settings: Settings, topic: Topic, *, partitions: int = PARTITIONS, **config: str) -> None:
    """A topic as another hand would make it."""
    name = Naming(settings.topic_prefix).of(topic)
    changed = {key.replace("_", "."): value for key, value in config.items()}
    new = NewTopic(name, partitions, 1, config=dict(topic.config) | changed)
    admin = client.admin(settings)
    admin.create_topics([new])[name].result(10)
    # acknowledged a moment before every broker knows of it
    eventually_here(lambda: name in admin.list_topics(timeout=10).topics, waiting_for=name)


def findings(settings: Settings) -> dict[str, check.Finding]:
    return {finding.topic.name: finding for finding in check.inspect(client.admin(settings), settings)}


def test_what_is_missing_is_created_as_it_has_to_be(bare: Settings) -> None:
    admin = client.admin(bare)

    before = check.apply(admin, bare)

    assert all(finding.is_missing for finding in before)
    assert not any(finding.is_missing or finding.difference for finding in findings(bare).values())
    check.require(admin, bare)


def test_a_second_run_finds_nothing_to_do(bare: Settings) -> None:
    admin = client.admin(bare)
    check.apply(admin, bare)

    again = check.apply(admin, bare)

    assert not any(finding.is_missing or finding.difference for finding in again)


def test_two_that_create_at_once_do_not_disturb_each_other(bare: Settings) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: check.apply(client.admin(bare), bare), range(2)))

    check.require(client.admin(bare), bare)


def test_without_topics_nothing_starts_and_the_way_out_is_named(bare: Settings) -> None:
    with pytest.raises(TopicsDiffer) as refused:
        check.require(client.admin(bare), bare)

    *missing, way_out = str(refused.value).splitlines()
    assert len(missing) == len(topics.ALL)
    assert all(line.endswith("is missing.") for line in missing)
    assert "mailstream topics apply" in way_out


@pytest.mark.parametrize(
    ("topic", "config", "says"),
    [
        pytest.param(
            topics.ATTEMPTS, {"cleanup_policy": "compact"}, "cleanup.policy=delete", id="a first claim could go"
        ),
        pytest.param(topics.STATUS, {"cleanup_policy": "delete"}, "cleanup.policy=compact", id="statuses would go"),
        pytest.param(topics.STATUS, {"cleanup_policy": "compact,delete"}, "cleanup.policy=compact", id="also deleted"),
        pytest.param(topics.ATTEMPTS, {"retention_ms": "60000"}, "Raise retention.ms", id="forgotten too early"),
        pytest.param(
            topics.REQUESTED, {"retention_ms": "60000"}, "Raise retention.ms", id="bodies forgotten too early"
        ),
        pytest.param(
            topics.ATTEMPTS,
            {"retention_bytes": "1000000"},
            "Set retention.bytes=-1 on it",
            id="deleted when it is long",
        ),
        pytest.param(
            topics.REQUESTED,
            {"max_message_bytes": "1048588"},
            "has max.message.bytes=1048588, so records of ours are refused. Set max.message.bytes=1114112 on it",
            id="the largest requests are refused",
        ),
        pytest.param(
            topics.ATTEMPTS,
            {"max_message_bytes": "100000"},
            "Set max.message.bytes=1048576 on it",
            id="a batch of small records is refused",
        ),
        pytest.param(
            topics.STATUS,
            {"min_compaction_lag_ms": "0"},
            "Set min.compaction.lag.ms=7200000 on it",
            id="the higher of two statuses goes before it is noticed",
        ),
    ],
)
def test_a_topic_of_another_policy_is_named_with_the_way_out(
    bare: Settings, topic: Topic, config: dict[str, str], says: str
) -> None:
    make(bare, topic, **config)

    found = findings(bare)[topic.name]

    assert found.difference is not None
    assert says in found.difference


def test_what_one_broker_alone_acknowledges_is_refused_where_three_have_to_keep_it(bare: Settings) -> None:
    make(bare, topics.STATUS, min_insync_replicas="1")
    assert findings(bare)[topics.STATUS.name].difference is None

    safe = bare.model_copy(update={"replication_factor": 3})

    difference = findings(safe)[topics.STATUS.name].difference
    assert difference is not None
    assert "has min.insync.replicas=1" in difference
    assert "Set min.insync.replicas=2 on it" in difference


def test_a_limit_that_is_the_brokers_default_counts_too(own_kafka: Kafka) -> None:
    settings = some_settings(own_kafka.bootstrap)
    with topics_of(settings) as admin:
        limit = ConfigEntry("log.retention.bytes", "1073741824", incremental_operation=AlterConfigOpType.SET)
        [number] = admin.list_topics(timeout=10).brokers
        broker = ConfigResource(ResourceType.BROKER, str(number), incremental_configs=[limit])
        admin.incremental_alter_configs([broker])[broker].result(10)

        deleted = {topic.name for topic in topics.ALL if topic.cleanup_policy == "delete"}

        def differences() -> dict[str, str]:
            found = {name: f.difference for name, f in findings(settings).items() if f.difference}
            assert set(found) == deleted  # a broker takes a new default for one topic after the other
            return found

        found = eventually_here(differences, waiting_for="a difference of each")

    assert "has retention.bytes=1073741824, so records are deleted" in str(found[topics.ATTEMPTS.name])


def test_a_topic_is_never_changed(bare: Settings) -> None:
    make(bare, topics.STATUS, partitions=PARTITIONS + 1)
    admin = client.admin(bare)

    check.apply(admin, bare)

    found = findings(bare)[topics.STATUS.name]
    assert found.difference is not None
    assert f"MAILSTREAM_PARTITIONS={PARTITIONS + 1}" in found.difference
    assert partitions_of(admin, bare, topics.STATUS) == PARTITIONS + 1
    with pytest.raises(TopicsDiffer):
        check.require(admin, bare)


def test_for_ever_is_long_enough(bare: Settings) -> None:
    make(bare, topics.ATTEMPTS, retention_ms="-1")

    assert findings(bare)[topics.ATTEMPTS.name].difference is None


def test_without_a_broker_the_error_says_where_it_was_looked_for() -> None:
    nowhere = some_settings("127.0.0.1:1")

    with pytest.raises(NoKafka) as refused:
        check.inspect(client.admin(nowhere), nowhere)

    assert "127.0.0.1:1" in str(refused.value)
    assert "mailstream dev kafka" in str(refused.value)


def partitions_of(admin: AdminClient, settings: Settings, topic: Topic) -> int:
    name = Naming(settings.topic_prefix).of(topic)
    return len(admin.list_topics(name, timeout=10).topics[name].partitions)
