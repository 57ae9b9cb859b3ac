"""Prove the guarantees from the topics alone (design §12): nothing is asked of API, worker or provider.

Partition by partition, as all records of an email are in the same one: memory is bounded by one partition's emails.
"""

import time
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise

from mailstream import topics
from mailstream.attempt import OutcomeRecord
from mailstream.log.read import Reader, total
from mailstream.settings import Settings
from mailstream.status import LIVE, EmailStatus, Status, order_of_merge
from streams.audit.life import Fold, Life, Place, fold_of
from streams.audit.read_back import PartitionLives, Progress, read_partition, spans_of

#: By which the clocks of two workers may differ, and what a datetime cannot say (guarantees §5, I7).
CLOCK_ERROR_SECONDS, ROUNDING_SECONDS = 0.005, 2e-6
#: Below this gap workers keep the rate, not each distance (design §6).
RATE_ONLY_SECONDS = 0.1
MOST_FINDINGS = 1000
_ACCEPTED = frozenset(s for s in Status if s not in LIVE) - {
    Status.UNCONFIRMED, Status.CANCELLED, Status.EXPIRED, Status.SUPPRESSED, Status.FAILED, Status.REJECTED,
}  # fmt: skip


class Kind(StrEnum):
    """What a finding is about. Closed: tools may switch on it."""

    LOST = "LOST"  #: asked for, passed by, and without a status
    DUPLICATE = "DUPLICATE"  #: more accepted calls than one and its marked resends
    NOT_THE_FOLD = "NOT_THE_FOLD"  #: the published status is not what the log says
    STALE = "STALE"  #: a former owner's older status is the last record
    NO_SAY = "NO_SAY"  #: an outcome of a call whose claim did not win
    GAP = "GAP"  #: two calls closer than the gap


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken promise."""

    kind: Kind
    about: str  #: email id, or coordinates
    what: str


@dataclass
class Report:
    """What was read and what was found."""

    seconds: float = 0.0
    emails: int = 0
    records: Counter[str] = field(default_factory=Counter)  #: per topic
    statuses: Counter[str] = field(default_factory=Counter)  #: published
    accepted: int = 0  #: calls that the provider took, as recorded
    marked: int = 0  #: of these, behind a claim marked possible_duplicate
    smallest_gap: float | None = None
    waiting: int = 0  #: asked for, not taken by a worker yet
    unsettled: int = 0  #: changed in the last seconds, so not judged
    not_judged: int = 0  #: their beginning is older than what the topics keep
    found: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether every promise was kept."""
        return not self.found

    def add(self, kind: Kind, about: str, what: str) -> None:
        """Count a finding; the first ones are kept in full."""
        self.found[kind.value] += 1
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(Finding(kind, about, what))


def verify(
    reader: Reader, settings: Settings, *, settle_seconds: float, progress: Progress, planned: Progress
) -> Report:
    """Read all partitions and judge what has been still for ``settle_seconds``.

    ``planned`` is told how many offsets there are, ``progress`` how many went by.
    """
    begun, report, starts = time.monotonic(), Report(), Starts()
    before = time.time() - settle_seconds
    promised: list[tuple[str, Place]] = []
    seen: set[int] = set()  #: hashes of all ids: a batch may name emails of any partition
    spans = {partition: spans_of(reader, settings, partition) for partition in range(settings.partitions)}
    planned(total(span for of_one in spans.values() for span in of_one.values()))
    for partition, of_one in spans.items():
        found = read_partition(reader, settings, of_one, partition, progress)
        judge(found, report, starts, before)
        promised += found.promised
        seen.update(hash(email_id) for email_id in found.lives)
        del found  # before the next one is read
    for email_id, place in promised:
        if hash(email_id) not in seen and place.at < before:
            report.add(Kind.LOST, email_id, "a batch names it, and no record asks for it")
    starts.judge(report, settings.send_gap, settings.send_burst)
    report.seconds = time.monotonic() - begun
    return report


def judge(found: PartitionLives, report: Report, starts: "Starts", before: float) -> None:
    """Judge those emails of one partition that nothing was written about since ``before`` (seconds since 1970)."""
    report.records.update(found.counts)
    passed = _passed_at(found, before)
    for life in found.lives.values():
        report.emails += 1
        starts.take(life, found.partition)
        if life.published is not None:
            report.statuses[life.published.status.value] += 1
        if life.newest_at >= before:
            report.unsettled += 1
            continue
        _judge_life(life, found, passed, report)


def _passed_at(found: PartitionLives, before: float) -> int:
    """Requests below this offset were taken, or lost: a later one got its status long enough ago."""
    taken = (
        life.asked[0].offset
        for life in found.lives.values()
        if life.asked and life.published is not None and life.published.created_at.timestamp() < before
    )
    return max(taken, default=-1)


def _judge_life(life: Life, found: PartitionLives, passed: int, report: Report) -> None:
    if life.is_forgotten or (not life.asked and not life.attempts and not _waits(life.published)):
        report.not_judged += 1
        return
    if life.published is None:
        _judge_missing(life, passed, report)
        return
    place = life.published.request
    if _waits(life.published) and place is not None and place.offset < found.requests_start:
        report.add(Kind.LOST, life.id, f"is {life.published.status}, and its request is no longer in the log")
    if life.last_published is not None and order_of_merge(life.last_published) < order_of_merge(life.published):
        report.add(
            Kind.STALE, life.id, f"{life.last_published.status} of a former owner is on top of {life.published.status}"
        )
    told = fold_of(life)
    if told is None or not life.is_whole():
        report.not_judged += 1
        return
    _judge_calls(life, told, report)
    if difference := _difference(life.published, told.status):
        report.add(Kind.NOT_THE_FOLD, life.id, difference)


def _waits(status: EmailStatus | None) -> bool:
    return status is not None and status.status in LIVE


def _judge_missing(life: Life, passed: int, report: Report) -> None:
    if not life.asked:
        report.not_judged += 1  # its attempts outlived request and status
    elif life.asked[0].offset < passed and life.rejected is None:
        report.add(Kind.LOST, life.id, f"was asked for at offset {life.asked[0].offset}, and has no status")
    elif life.rejected is None:
        report.waiting += 1


def _judge_calls(life: Life, told: Fold, report: Report) -> None:
    marked = sum(outcome.nonce in told.marked for outcome in told.accepted)
    report.accepted += len(told.accepted)
    report.marked += marked
    if len(told.accepted) - 1 - marked > 0:
        report.add(Kind.DUPLICATE, life.id, f"{len(told.accepted)} accepted calls, {marked} of them marked")
    elif told.names_two_messages and not told.marked:
        report.add(Kind.DUPLICATE, life.id, "the provider's events name two messages, and no call is marked")
    for outcome in told.without_say:
        report.add(Kind.NO_SAY, life.id, f"attempt {outcome.attempt} has the outcome of a claim that did not win")


def _difference(published: EmailStatus, told: EmailStatus) -> str | None:
    """What differs. Where the provider's word decides, attempt and nonce say nothing: topics have no order between them."""
    if published.status is not told.status:
        return f"published as {published.status}, the log says {told.status}"
    if published.status not in _ACCEPTED and (published.attempt, published.nonce) != (told.attempt, told.nonce):
        return f"published with attempt {published.attempt}, the log says {told.attempt}"
    return None


class Starts:
    """When each recorded call started: 24 bytes a call, so that millions fit."""

    def __init__(self) -> None:
        self._at, self._worker = array("d"), array("I")
        self._partition, self._offset = array("I"), array("Q")
        self._workers: dict[str, int] = {}

    def take(self, life: Life, partition: int) -> None:
        """Keep the starts of an email's calls."""
        for place, record in life.attempts:
            if isinstance(record, OutcomeRecord) and record.started_at is not None:
                self._at.append(record.started_at.timestamp())
                self._worker.append(self._workers.setdefault(record.worker, len(self._workers)))
                self._partition.append(partition)
                self._offset.append(place.offset)

    def judge(self, report: Report, gap: float, burst: int) -> None:
        """Are they a gap apart; or, where only the rate is kept, few enough in any stretch of time."""
        order = sorted(range(len(self._at)), key=self._at.__getitem__)
        distances = [self._at[b] - self._at[a] for a, b in pairwise(order)]
        report.smallest_gap = min(distances, default=None)
        if burst > 1 or gap < RATE_ONLY_SECONDS:
            for what in self._too_many(order, gap, burst):
                report.add(Kind.GAP, "rate", what)
            return
        for (a, b), distance in zip(pairwise(order), distances, strict=True):
            allowed = gap - (ROUNDING_SECONDS if self._worker[a] == self._worker[b] else CLOCK_ERROR_SECONDS)
            if distance < allowed:
                report.add(Kind.GAP, self._where(b), f"started {distance:.6f} s after {self._where(a)}")

    def _too_many(self, order: list[int], gap: float, burst: int) -> Iterator[str]:
        for length in (10 + burst, 100 + burst, 1000 + burst):
            for first, last in zip(order, order[length:], strict=False):
                seconds = self._at[last] - self._at[first]
                if seconds < (length - burst) * gap - CLOCK_ERROR_SECONDS:
                    yield f"{length + 1} calls in {seconds:.3f} s up to {self._where(last)}"
                    break

    def _where(self, index: int) -> str:
        return f"{topics.ATTEMPTS.name} {self._partition[index]}/{self._offset[index]}"
