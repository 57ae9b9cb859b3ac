"""Are the topics what emails were made for; create what is missing, never change what is there."""

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource  # the package exports both only at run time
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewTopic

from mailstream.domain import topics
from mailstream.domain.errors import NoKafka, TopicsDiffer
from mailstream.domain.topics import MIB, SAFE_IN_SYNC, SAFE_REPLICATION, Naming, Topic
from mailstream.settings import Settings

SECONDS = 10.0
PAUSE_SECONDS = 0.1
#: A topic is made, and this broker has not heard all of it yet.
MADE_JUST_NOW = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.LEADER_NOT_AVAILABLE})


@dataclass(frozen=True, slots=True)
class Finding:
    """One topic and how it stands."""

    topic: Topic
    name: str
    difference: str | None  #: what differs, for people; None: as it should be, or missing
    is_missing: bool = False


def inspect(admin: AdminClient, settings: Settings, wanted: Iterable[Topic] = topics.ALL) -> list[Finding]:
    """Look at each topic on the broker. Raises NoKafka when no broker answers."""
    naming, deadline = Naming(settings.topic_prefix), time.monotonic() + SECONDS
    names = {naming.of(topic): topic for topic in wanted}
    while True:
        try:
            there, configs = _answers(admin, names)
            break
        except (KafkaException, TimeoutError) as error:
            reason = error.args[0].name() if isinstance(error, KafkaException) else "no answer in time"
            is_new = isinstance(error, KafkaException) and error.args[0].code() in MADE_JUST_NOW
            if not is_new or time.monotonic() > deadline:
                raise NoKafka(
                    f"No broker answers at {settings.kafka_bootstrap} ({reason}). Nothing was read or changed. "
                    "Start one with `mailstream dev kafka`, or set MAILSTREAM_KAFKA_BOOTSTRAP."
                ) from None
        time.sleep(PAUSE_SECONDS)
    findings = []
    for name, topic in names.items():
        if name not in there:
            findings.append(Finding(topic, name, None, is_missing=True))
            continue
        found = {key: entry.value for key, entry in configs[name].items()}
        differences = _differences(topic, len(there[name].partitions), found, settings)
        findings.append(Finding(topic, name, next(differences, None)))
    return findings


def _answers(admin: AdminClient, names: Iterable[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Those of the topics that are there, and their settings. Raises KafkaException, TimeoutError."""
    found = admin.list_topics(timeout=SECONDS).topics
    there = {name: found[name] for name in names if name in found}
    for topic in there.values():
        if topic.error is not None and topic.error.code() in MADE_JUST_NOW:
            raise KafkaException(topic.error)
    asked = admin.describe_configs([ConfigResource(ResourceType.TOPIC, name) for name in there]) if there else {}
    return there, {resource.name: answer.result(SECONDS) for resource, answer in asked.items()}


def _differences(topic: Topic, partitions: int, found: dict[str, str], settings: Settings) -> Iterator[str]:
    """What differs and what to do, for people. Also a limit that deletes records too early, refuses ours, or loses them."""
    if partitions != settings.partitions:
        yield (
            f"has {partitions} partitions; email ids were made for {settings.partitions}. Set MAILSTREAM_PARTITIONS="
            f"{partitions} if that was always the count; else recreate the topic with {settings.partitions}"
        )
    policy = ",".join(sorted(found["cleanup.policy"].split(",")))
    if policy != topic.cleanup_policy:
        lost = "statuses vanish" if topic.cleanup_policy == "compact" else "records that decide can vanish"
        yield (
            f"has cleanup.policy={policy}; with anything but {topic.cleanup_policy} {lost}. "
            f"Set cleanup.policy={topic.cleanup_policy} on it"
        )
    if found.get("message.timestamp.type", "LogAppendTime") != "LogAppendTime":
        yield "takes any producer's clock; ages follow the broker's. Set message.timestamp.type=LogAppendTime on it"
    wanted = dict(topic.config)
    if topic.cleanup_policy == "delete":
        least = int(wanted["retention.ms"])
        if topic is topics.REQUESTED:
            least = int(settings.max_event_age * 1000) // 7  # a day of the default week: carrying needs half of it
        if 0 <= (kept := int(found.get("retention.ms", "-1"))) < least:
            yield f"keeps records for {kept} ms, at least {least} are needed. Raise retention.ms on it"
        if (size := int(found.get("retention.bytes", "-1"))) >= 0:
            yield f"has retention.bytes={size}, so records are deleted however young they are. Set retention.bytes=-1 on it"
    is_replicated = settings.replication_factor >= SAFE_REPLICATION
    for name, least, consequence in (
        # many small records go in one batch, which counts as one
        ("max.message.bytes", int(wanted.get("max.message.bytes", MIB)), "records of ours are refused"),
        (
            "min.compaction.lag.ms",
            int(wanted.get("min.compaction.lag.ms", 0)),
            "a higher status can be removed behind a lower one before it is noticed",
        ),
        (
            "min.insync.replicas",
            SAFE_IN_SYNC if is_replicated else 0,
            "what one broker alone has acknowledged is lost with it",
        ),
    ):
        if int(found.get(name, least)) < least:
            yield f"has {name}={found[name]}, so {consequence}. Set {name}={least} on it"


def require(admin: AdminClient, settings: Settings, wanted: Iterable[Topic] = topics.ALL) -> None:
    """Raise TopicsDiffer unless every topic is as it should be."""
    wrong = [finding for finding in inspect(admin, settings, wanted) if finding.is_missing or finding.difference]
    if wrong:
        lines = [f"{finding.name} {finding.difference or 'is missing'}." for finding in wrong]
        raise TopicsDiffer(
            "\n".join(lines) + "\nNothing was read, sent or committed. `mailstream topics plan` shows what differs, "
            "`mailstream topics apply` creates what is missing."
        )


def retention_seconds(admin: AdminClient, settings: Settings, topic: Topic) -> float:
    """How long the broker keeps a record of the topic; infinite when it deletes none by age. Raises KafkaException."""
    name = Naming(settings.topic_prefix).of(topic)
    [answer] = admin.describe_configs([ConfigResource(ResourceType.TOPIC, name)]).values()
    milliseconds = int(answer.result(SECONDS)["retention.ms"].value)
    return math.inf if milliseconds < 0 else milliseconds / 1000


def apply(admin: AdminClient, settings: Settings) -> list[Finding]:
    """Create the missing topics and wait until their leaders are known. Returns what was found before."""
    findings = inspect(admin, settings)
    missing = [finding for finding in findings if finding.is_missing]
    if not missing:
        return findings
    extra = {"min.insync.replicas": str(SAFE_IN_SYNC)} if settings.replication_factor >= SAFE_REPLICATION else {}
    created = admin.create_topics(
        [
            NewTopic(
                finding.name,
                settings.partitions,
                settings.replication_factor,
                config=dict(finding.topic.config) | extra,
            )
            for finding in missing
        ]
    )
    for name, answer in created.items():
        try:
            answer.result(SECONDS * 3)
        except KafkaException as error:
            if error.args[0].name() != "TOPIC_ALREADY_EXISTS":  # another `apply` was faster
                raise TopicsDiffer(f"{name} could not be created: {error.args[0].str()}") from None
    _await_leaders(admin, {finding.name for finding in missing})
    return findings


def _await_leaders(admin: AdminClient, names: set[str]) -> None:
    """Creation is acknowledged before every broker knows of the topic."""
    deadline = time.monotonic() + SECONDS * 3
    while time.monotonic() < deadline:
        there = admin.list_topics(timeout=SECONDS).topics
        if all(
            name in there and there[name].partitions and all(p.leader >= 0 for p in there[name].partitions.values())
            for name in names
        ):
            return
        time.sleep(0.05)
    raise TopicsDiffer("The topics were created, but the broker names no leader for them yet. Try again.")
