"""The topics: names, keys, policies. All have the same partition count."""

from dataclasses import dataclass

DAY_MS = 86_400_000
KIB = 1024
MIB = 1024 * 1024

#: With fewer replicas, or fewer that must have a record before it counts, a machine that is lost takes mail with it.
SAFE_REPLICATION, SAFE_IN_SYNC = 3, 2
#: The largest value of a request, uncompressed: what remains of Kafka's 1 MiB when headers and a carry are paid for.
MAX_REQUEST_BYTES = MIB - 64 * KIB
#: What of a larger poison is kept in its dead letter.
MAX_DEAD_LETTER_BYTES = 900_000
#: Key and headers of a request together: what a copy and a dead letter have room for beside the value.
MAX_ENVELOPE_BYTES = 63 * KIB


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic as `mailstream topics apply` makes it."""

    name: str  #: without the prefix
    cleanup_policy: str
    config: tuple[tuple[str, str], ...]


def _topic(name: str, policy: str, **config: int | str) -> Topic:
    # LogAppendTime: any producer's clock is accepted and replaced, so that retention and ages follow one clock
    settings = {"cleanup.policy": policy, "message.timestamp.type": "LogAppendTime"} | {
        key.replace("_", "."): str(value) for key, value in config.items()
    }
    return Topic(name, policy, tuple(sorted(settings.items())))


#: What callers ask for; the only copy of subject and body. Key: canonical recipient.
REQUESTED = _topic("email.requested", "delete", retention_ms=7 * DAY_MS, max_message_bytes=MIB + 64 * KIB)
#: What we did towards the provider, in log order. Key: email id. Never compacted: the first claim must not vanish.
ATTEMPTS = _topic("email.attempts", "delete", retention_ms=30 * DAY_MS)
#: The latest status of each email, with its timeline. Key: email id. The lag keeps an older record until its successor is 2 h old.
STATUS = _topic(
    "email.status", "compact", delete_retention_ms=DAY_MS, min_compaction_lag_ms=7_200_000, max_message_bytes=MIB
)
#: Facts from the provider's signed webhook. Key: canonical recipient; partition: of the email id.
EVENTS = _topic("email.events", "delete", retention_ms=30 * DAY_MS)
#: Dead letters: raw bytes as received.
REJECTED = _topic("email.rejected", "delete", retention_ms=30 * DAY_MS, max_message_bytes=2 * MIB)
#: Addresses that get no mail. Key: sha256(tenant, canonical recipient).
SUPPRESSIONS = _topic("email.suppressions", "compact", delete_retention_ms=DAY_MS)

ALL = (REQUESTED, ATTEMPTS, STATUS, EVENTS, REJECTED, SUPPRESSIONS)


@dataclass(frozen=True, slots=True)
class Naming:
    """Names on this cluster: the prefix stands before every topic, group and application id."""

    prefix: str = ""

    def of(self, topic: Topic | str) -> str:
        """The full name of a topic, group or application."""
        return self.prefix + (topic if isinstance(topic, str) else topic.name)


GROUP_WORKER = "mailstream-worker"
GROUP_TRIGGERS = "mailstream-triggers"
GROUP_CHECKPOINTS = "mailstream-checkpoints"
#: One for each endpoint: its name is put behind.
GROUP_WEBHOOKS = "mailstream-webhooks-"
