"""The history of one run, its verdict, and the figures that belong to it."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from typing import Any

from dev.sendgrid.ledger import Call
from mailstream import codec, email_id, topics
from mailstream.attempt import ClaimRecord, HeldRecord, OutcomeRecord, ReleasedRecord
from mailstream.errors import BadAddress
from mailstream.recipient import canonical
from mailstream.request import Batch, Control, ControlKind, EmailRequest, OnAmbiguous
from mailstream.status import EmailStatus, merge
from tests.support.history_logs import Ask, Audit, Fault, FaultKind, Lookup, Planted, Record, Result, Sample, Word

ATTEMPTS = ClaimRecord | OutcomeRecord | ReleasedRecord | HeldRecord


@dataclass(frozen=True, slots=True)
class Run:
    """Under which conditions the history came to be."""

    seed: int = 0
    commit: str = ""
    broker: str = ""
    gap_seconds: float = 0.0
    burst: int = 1
    is_rate_only: bool = False  #: a gap below 100 ms with several workers: the rate is kept, not each distance
    on_ambiguous: OnAmbiguous = OnAmbiguous.HOLD
    session_timeout_seconds: float = 30.0
    topic_prefix: str = ""
    arrival_slack_seconds: float = (
        0.02  #: by which two calls may differ in their time to the provider, on a busy machine
    )
    limits: Mapping[str, float] = field(default_factory=dict)  #: largest value of each kind of sample


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken promise."""

    invariant: str
    about: str  #: an email id, a partition, a process
    what: str

    def __str__(self) -> str:
        return f"{self.invariant} {self.about}: {self.what}"


@dataclass(frozen=True)
class History:
    """All five logs of a run, and what was measured beside them."""

    run: Run = Run()
    asks: Sequence[Ask] = ()
    words: Sequence[Word] = ()
    calls: Sequence[Call] = ()
    records: Sequence[Record] = ()
    lookups: Sequence[Lookup] = ()
    faults: Sequence[Fault] = ()
    samples: Sequence[Sample] = ()
    audits: Sequence[Audit] = ()
    planted: Sequence[Planted] = ()
    canaries: Mapping[str, str] = field(default_factory=dict)  #: name → the planted secret
    texts: Mapping[str, str] = field(default_factory=dict)  #: where → logs, traces, metrics, error answers

    @cached_property
    def requests(self) -> dict[str, list[tuple[Record, EmailRequest]]]:
        """Each email id to the records that ask for it, in log order."""
        found: dict[str, list[tuple[Record, EmailRequest]]] = defaultdict(list)
        for record in self._of(topics.REQUESTED.name):
            asked = record.value.items if isinstance(record.value, Batch) else (record.value,)
            for request in asked:
                if isinstance(request, EmailRequest) and (id_ := self._id_of(record, request)):
                    found[id_].append((record, request))
        return dict(found)

    @cached_property
    def statuses(self) -> dict[str, list[tuple[Record, EmailStatus]]]:
        """Each email id to its published statuses, in log order."""
        return _by_id(self._of(topics.STATUS.name), EmailStatus)

    @cached_property
    def attempts(self) -> dict[str, list[tuple[Record, Any]]]:
        """Each email id to the records of ``email.attempts`` about it, in log order."""
        return _by_id(self._of(topics.ATTEMPTS.name), ATTEMPTS)

    @cached_property
    def final(self) -> dict[str, EmailStatus]:
        """Where each email stands, as whoever loads the topic sees it: by rank, never by last record."""
        return {id_: reduce(merge, (status for _, status in all_)) for id_, all_ in self.statuses.items()}

    @cached_property
    def accepted(self) -> dict[str, list[Call]]:
        """Each email id to the calls that the provider took."""
        found: dict[str, list[Call]] = defaultdict(list)
        for call in self.calls:
            if call.is_accepted and call.id is not None and (not call.is_sandbox or self._is_test(call.id)):
                found[call.id].append(call)
        return dict(found)

    @cached_property
    def claims(self) -> dict[str, ClaimRecord]:
        """Each nonce to its claim."""
        return {r.nonce: r for all_ in self.attempts.values() for _, r in all_ if isinstance(r, ClaimRecord)}

    @cached_property
    def resends_ordered(self) -> set[str]:
        """Emails for which an operator ordered a resend."""
        return {
            record.value.id
            for record in self._of(topics.REQUESTED.name)
            if isinstance(record.value, Control)
            and record.value.kind is ControlKind.RESOLVE
            and record.value.to == "RESEND"
        }

    @cached_property
    def dead_letters(self) -> dict[tuple[int, int], list[str]]:
        """(partition, offset) in ``email.requested`` to the reasons of its dead letters."""
        found: dict[tuple[int, int], list[str]] = defaultdict(list)
        for record in self._of(topics.REJECTED.name):
            headers = {name: value.decode() for name, value in record.headers.items()}
            if headers.get("dlt-original-topic", "").endswith(topics.REQUESTED.name):
                place = int(headers["dlt-original-partition"]), int(headers["dlt-original-offset"])
                found[place].append(headers["mailstream-reason"])
        return dict(found)

    def policy_of(self, id_: str) -> OnAmbiguous:
        """What the caller chose for an outcome that stays unknown."""
        chosen = next((request.on_ambiguous for _, request in self.requests.get(id_, ())), None)
        return OnAmbiguous.RESEND if id_ in self.resends_ordered else chosen or self.run.on_ambiguous

    def in_log_order(self, topic: str) -> list[Record]:
        """The records of a topic, partition by partition."""
        return self._of(topic)

    def _of(self, topic: str) -> list[Record]:
        return sorted((r for r in self.records if r.topic == topic), key=lambda r: (r.partition, r.offset))

    def _is_test(self, id_: str) -> bool:
        return any(request.test for _, request in self.requests.get(id_, ()))

    def _id_of(self, record: Record, request: EmailRequest) -> str | None:
        if request.id is not None:
            return request.id
        try:
            recipient = canonical(request.to.email)
        except BadAddress:
            return None
        if request.idempotency_key is not None:
            return email_id.derived(request.tenant, request.source, request.idempotency_key, recipient)
        if "ce_source" in record.headers and "ce_id" in record.headers:
            source, event = record.headers["ce_source"].decode(), record.headers["ce_id"].decode()
            return email_id.derived(request.tenant, source, event, recipient)
        if codec.REKEYED_HEADER in record.headers:
            return None  # a copy carries its id
        topic = self.run.topic_prefix + record.topic
        return email_id.of_place(topic, record.partition, record.offset, recipient)


def _by_id(records: Iterable[Record], kind: Any) -> dict[str, list[tuple[Record, Any]]]:
    found: dict[str, list[tuple[Record, Any]]] = defaultdict(list)
    for record in records:
        if isinstance(record.value, kind):
            found[record.value.id].append((record, record.value))
    return dict(found)


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value below which that share of the values lies (nearest rank); None without values."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else None


def count_faults(history: History, *kinds: FaultKind) -> int:
    """How many of these the nemesis did."""
    return sum(fault.kind in kinds for fault in history.faults)


def count_answers(history: History, result: Result) -> int:
    """How many asks ended so."""
    return sum(ask.result is result for ask in history.asks)
