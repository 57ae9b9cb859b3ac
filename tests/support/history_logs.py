"""The five logs of a run: what clients asked (emails, and words about them), what the provider took, what stands in the
topics, what lookups answered, what the nemesis did. None of them is a counter of ours.

Times are seconds since 1970 of one machine. Addresses stand in some of these records: they stay in the tests.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from mailstream.domain import codec, topics
from mailstream.domain.event import ProviderEvent
from mailstream.domain.request import Batch, Control, ControlKind, EmailRequest
from mailstream.domain.status import EmailStatus, Status


class Result(StrEnum):
    """How a client's call ended. INFO is never counted as FAIL: it may have happened."""

    OK = "ok"
    FAIL = "fail"
    INFO = "info"  #: no answer


@dataclass(frozen=True, slots=True)
class Ask:
    """A: one request for an email, and its answer. A batch is one ask for each of its items."""

    at: float
    result: Result
    code: int | None = None  #: of the item, in a permissive batch; None: asked over Kafka, or no answer
    id: str | None = None
    ended_at: float = 0.0
    key: str | None = None  #: the Idempotency-Key of the HTTP request; of a batch: the batch's
    body: str = ""  #: digest of the whole HTTP body, so that the same key with another body is seen
    to: str | None = None  #: canonical recipient; a key means one email for each recipient
    batch: str | None = None  #: name of the one HTTP request that carried this item; another one for a repeat
    item: int = 0  #: place in the batch, from 0
    mode: str | None = None  #: of a batch: strict or permissive
    is_replay: bool = False  #: the answer says Idempotent-Replayed
    replica: str = "api-0"
    send_at: float | None = None
    expires_at: float | None = None
    by: str = "http"  #: http, kafka, trigger


@dataclass(frozen=True, slots=True)
class Word:
    """A: one cancel, reschedule, or an operator's resolve, and its answer."""

    at: float
    ended_at: float
    kind: ControlKind
    id: str
    result: Result
    code: int | None = None  #: 200: done; 202: in the log, not decided yet; None: no answer, or not asked over HTTP
    to: str | None = None  #: resolve: SENT, UNCONFIRMED or RESEND
    send_at: float | None = None  #: reschedule: the new time
    replica: str = "api-0"


@dataclass(frozen=True, slots=True)
class Lookup:
    """G: one question for an email, and its answer."""

    at: float
    id: str
    code: int
    status: Status | None = None
    rank: int | None = None
    replica: str = "api-0"
    ended_at: float | None = None  #: when the answer had come; None: at once


class FaultKind(StrEnum):
    """What the nemesis can do."""

    KILL = "kill"
    STOP = "stop"  #: SIGTERM
    PAUSE = "pause"
    RESUME = "resume"
    CUT = "cut"  #: a connection to Kafka
    MEND = "mend"
    BROKER_DOWN = "broker down"
    BROKER_UP = "broker up"
    TOPIC_REFUSES = "topic refuses"  #: writes to one topic; target: its name without prefix
    TOPIC_TAKES = "topic takes"
    ALL_DOWN = "all workers down"  #: beside a KILL or STOP of each; target: workers
    ALL_UP = "all workers up"
    EXIT = "exit"  #: not done, but seen: a process ended


@dataclass(frozen=True, slots=True)
class Fault:
    """N: one thing that was done to a process, or seen of it."""

    at: float
    kind: FaultKind
    target: str  #: worker id, api-0, api-1, broker, or a topic
    code: int | None = None  #: exit code


Value = EmailRequest | Control | Batch | EmailStatus | ProviderEvent | Any


@dataclass(frozen=True, slots=True)
class Record:
    """T: one record of a topic; ``value`` is decoded, or the bytes that nobody can read."""

    topic: str  #: without prefix
    partition: int
    offset: int
    at: float
    value: Value
    key: bytes | None = None
    headers: dict[str, bytes] = field(default_factory=dict)

    @property
    def place(self) -> tuple[str, int, int]:
        """Topic, partition, offset."""
        return self.topic, self.partition, self.offset


_DECODERS = {
    topics.REQUESTED.name: codec.decode_requested,
    topics.ATTEMPTS.name: codec.decode_attempt,
    topics.STATUS.name: codec.decode_status,
    topics.EVENTS.name: codec.decode_event,
    topics.SUPPRESSIONS.name: codec.decode_suppression,
}


def record(
    topic: str,
    partition: int,
    offset: int,
    timestamp_ms: int,
    key: bytes | None,
    value: bytes | None,
    headers: Iterable[tuple[str, bytes]] = (),
) -> Record:
    """A record as it came from Kafka; dead letters and what cannot be read stay bytes."""
    decoded: Value = value
    if value is not None and topic in _DECODERS:
        try:
            decoded = _DECODERS[topic](value)
        except codec.Undecodable:
            decoded = value
    return Record(topic, partition, offset, timestamp_ms / 1000, decoded, key, dict(headers))


@dataclass(frozen=True, slots=True)
class Sample:
    """One measured value of a process: calls in flight, RSS, descriptors, queues.

    ``stall_seconds``: a clock beside the process (never the process itself) saw that it got no processor for so long,
    until ``at``. Process ``machine``: nothing did.
    """

    at: float
    process: str
    what: str
    value: float


@dataclass(frozen=True, slots=True)
class Planted:
    """A poison record that the test wrote, and the reason it must be rejected with. None: it is only ignored."""

    partition: int
    offset: int
    reason: str | None


@dataclass(frozen=True, slots=True)
class Audit:
    """One run of `mailstream audit verify`."""

    started_at: float
    ended_at: float
    exit_code: int
    differing: tuple[str, ...] = ()  #: ids whose published status is not the fold of the log
    found: tuple[str, ...] = ()  #: all that its findings are about: ids, and what is no id
    is_system_stopped: bool = True  #: no worker ran: then any call in this time is the audit's
