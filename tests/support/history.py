"""The history of one run, its verdict, and the figures that belong to it."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from typing import Any

from dev.sendgrid.ledger import Call
from mailstream.domain import codec, email_id, topics
from mailstream.domain.attempt import ClaimRecord, HeldRecord, OutcomeRecord, ReleasedRecord
from mailstream.domain.errors import BadAddress
from mailstream.domain.event import ProviderEvent
from mailstream.domain.recipient import canonical
from mailstream.domain.request import Batch, Control, EmailRequest, OnAmbiguous
from mailstream.domain.status import EmailStatus, merge
from tests.checker.blows import Blow, blows_in
from tests.checker.claims import Life, lives_of
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
    hold_timeout_seconds: float | None = None  #: None: unknown, and not judged
    most_silences: float = 5.0  #: so many bounds of I9 may all blows allow; inf: the only worker is killed all the time
    retries: int | None = None  #: how many an email has; None: unknown, and not judged
    most_age_seconds: float = 604_800.0  #: of a request that is taken
    topic_prefix: str = ""
    arrival_slack_seconds: float = (
        0.02  #: by which two calls may differ in their time to the provider, on a busy machine
    )
    limits: Mapping[str, float] = field(default_factory=dict)  #: largest value of each kind of sample


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
        """Each email id to the records that ask for it, in log order: its own, and batches that name it."""
        found: dict[str, list[tuple[Record, EmailRequest]]] = defaultdict(list)
        for record in self.in_log_order(topics.REQUESTED.name):
            for id_, request in self.asked_in(record):
                if id_ is not None:
                    found[id_].append((record, request))
        return dict(found)

    def asked_in(self, record: Record) -> list[tuple[str | None, EmailRequest]]:
        """The emails that one record asks for, with their ids; a copy that lost its id has none."""
        if isinstance(record.value, Batch):
            return [(self._id_of(record, item, f"/{n}"), item) for n, item in enumerate(record.value.items)]
        if isinstance(record.value, EmailRequest):
            return [(self._id_of(record, record.value), record.value)]
        return []

    @cached_property
    def controls(self) -> dict[str, list[tuple[Record, Control]]]:
        """Each email id to the words about it in ``email.requested``, in log order."""
        return _by_id(self.in_log_order(topics.REQUESTED.name), Control)

    @cached_property
    def events(self) -> dict[str, list[tuple[Record, ProviderEvent]]]:
        """Each email id to what the provider's webhook told about it."""
        return {id_: all_ for id_, all_ in _by_id(self.in_log_order(topics.EVENTS.name), ProviderEvent).items() if id_}

    @cached_property
    def lives(self) -> dict[str, Life]:
        """Each email id to its claims, and which of them won."""
        return lives_of(self.attempts.items())

    @cached_property
    def blows(self) -> list[Blow]:
        """What the nemesis did, from beginning to end."""
        return blows_in(self.faults)

    @cached_property
    def calls_of(self) -> dict[str, list[Call]]:
        """Each nonce to its calls that reached the provider."""
        found: dict[str, list[Call]] = defaultdict(list)
        for call in self.calls:
            if call.nonce is not None:
                found[call.nonce].append(call)
        return dict(found)

    @cached_property
    def real_calls(self) -> dict[str, list[Call]]:
        """Each email id to its calls, in order of time; probes belong to none."""
        found: dict[str, list[Call]] = defaultdict(list)
        for call in sorted(self.calls, key=lambda call: call.at):
            if call.id is not None and (not call.is_sandbox or self._is_test(call.id)):
                found[call.id].append(call)
        return dict(found)

    @cached_property
    def stalls(self) -> list[Sample]:
        """When a process got no processor, in order of the end of it."""
        stalls = (sample for sample in self.samples if sample.what == "stall_seconds")
        return sorted(stalls, key=lambda stall: stall.at)

    @cached_property
    def promised(self) -> dict[str, float]:
        """Each id that a 202 named to when its first caller had the answer."""
        found: dict[str, float] = {}
        for ask in self.asks:
            if ask.result is Result.OK and ask.code == 202 and ask.id:
                found[ask.id] = min(found.get(ask.id, math.inf), ask.ended_at or ask.at)
        return found

    @cached_property
    def ended_at(self) -> float:
        """The newest moment that any log knows."""
        newest = [max((each.at for each in log), default=0.0) for log in (self.records, self.calls, self.lookups)]
        return max(*newest, max((fault.at for fault in self.faults), default=0.0))

    @cached_property
    def statuses(self) -> dict[str, list[tuple[Record, EmailStatus]]]:
        """Each email id to its published statuses, in log order."""
        return _by_id(self.in_log_order(topics.STATUS.name), EmailStatus)

    @cached_property
    def attempts(self) -> dict[str, list[tuple[Record, Any]]]:
        """Each email id to the records of ``email.attempts`` about it, in log order."""
        return _by_id(self.in_log_order(topics.ATTEMPTS.name), ATTEMPTS)

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
    def dead_letters(self) -> dict[tuple[int, int], list[tuple[Record, str]]]:
        """(partition, offset) in ``email.requested`` to its dead letters and their reasons."""
        found: dict[tuple[int, int], list[tuple[Record, str]]] = defaultdict(list)
        for record in self.in_log_order(topics.REJECTED.name):
            headers = {name: value.decode() for name, value in record.headers.items()}
            if headers.get("dlt-original-topic", "").endswith(topics.REQUESTED.name):
                place = int(headers["dlt-original-partition"]), int(headers["dlt-original-offset"])
                found[place].append((record, headers["mailstream-reason"]))
        return dict(found)

    def in_log_order(self, topic: str) -> list[Record]:
        """The records of a topic, partition by partition."""
        return self._by_topic.get(topic, [])

    @cached_property
    def _by_topic(self) -> dict[str, list[Record]]:
        found: dict[str, list[Record]] = defaultdict(list)
        for record in self.records:
            found[record.topic].append(record)
        for records in found.values():
            records.sort(key=lambda record: (record.partition, record.offset))
        return dict(found)

    def _is_test(self, id_: str) -> bool:
        return any(request.test for _, request in self.requests.get(id_, ()))

    def _id_of(self, record: Record, request: EmailRequest, mark: str = "") -> str | None:
        if request.id is not None:
            return request.id
        try:
            recipient = canonical(request.to.email)
        except BadAddress:
            return None
        if request.idempotency_key is not None:
            return email_id.derived(request.tenant, request.source, request.idempotency_key, recipient)
        if "ce_source" in record.headers and "ce_id" in record.headers:
            source, event = record.headers["ce_source"].decode(), record.headers["ce_id"].decode() + mark
            return email_id.derived(request.tenant, source, event, recipient)
        if codec.REKEYED_HEADER in record.headers:
            return None  # a copy carries its id
        topic = self.run.topic_prefix + record.topic + mark
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
