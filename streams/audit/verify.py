"""Prove the guarantees from the topics alone: nothing is asked of API, worker or provider.

Partition by partition, as all records of an email are in the same one: memory is bounded by one partition's emails.
"""

import time

from mailstream.domain import topics
from mailstream.domain.attempt import ClaimRecord
from mailstream.domain.status import ACCEPTED, LIVE, EmailStatus, order_of_merge
from mailstream.kafka.reader import Reader
from mailstream.settings import Settings
from streams.audit.batch_promises import Promises
from streams.audit.email_history import EmailHistory, Fold, Place, fold_of, statuses_before
from streams.audit.gaps import Starts
from streams.audit.replay import PartitionLives, passed_by_workers, read_partition, spans_of
from streams.audit.report import Kind, Report


def verify(reader: Reader, settings: Settings, *, settle_seconds: float) -> Report:
    """Read all partitions and judge what has been still for ``settle_seconds``."""
    begun, report, starts, promises = time.monotonic(), Report(), Starts(), Promises()
    before = time.time() - settle_seconds
    passed = passed_by_workers(reader, settings)
    spans = {partition: spans_of(reader, settings, partition) for partition in range(settings.partitions)}
    reader.plan(span for of_one in spans.values() for span in of_one.values())
    report.offsets_known = passed is not None
    for partition, of_one in spans.items():
        how_far = passed[partition] if passed is not None else None
        found = read_partition(reader, settings, of_one, partition, how_far)
        judge(found, report, starts, promises, before)
        del found  # before the next one is read
    promises.judge(report)
    starts.judge(report, settings.send_gap, settings.send_burst)
    report.seconds = time.monotonic() - begun
    return report


def judge(found: PartitionLives, report: Report, starts: Starts, promises: Promises, before: float) -> None:
    """Judge those emails of one partition that nothing was written about since ``before`` (seconds since 1970)."""
    report.records.update(found.counts)
    report.waiting.update(found.waiting)
    passed = found.passed.requests if found.passed else _passed_at(found, before)
    promises.take(found, passed, before)
    if found.passed is None:
        report.waiting["batches"] += len({each.place for each in found.promised if each.place.offset >= passed})
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


def _judge_life(life: EmailHistory, found: PartitionLives, passed: int, report: Report) -> None:
    if life.is_forgotten or (not life.asked and not life.attempts and not _waits(life.published)):
        report.not_judged += 1
        return
    if life.published is None:
        _judge_missing(life, found, passed, report)
        return
    place = life.published.request
    if _waits(life.published) and place is not None and place.offset < found.requests_start:
        report.add(Kind.LOST, life.id, f"is {life.published.status}, and its request is no longer in the log")
    _judge_last(life, life.published, found, report)
    told = fold_of(life)
    _judge_controls(life, max(life.published.control, told.status.control if told else -1), found, report)
    if told is None or not life.is_whole():
        report.not_judged += 1
        return
    _judge_calls(life, told, report)
    _judge_status(life, life.published, told.status, found, report)


def _waits(status: EmailStatus | None) -> bool:
    return status is not None and status.status in LIVE


def _judge_missing(life: EmailHistory, found: PartitionLives, passed: int, report: Report) -> None:
    if not life.asked:
        report.not_judged += 1  # its attempts outlived request and status
        return
    where = f"{topics.REQUESTED.name} {found.partition}/{life.asked[0].offset}"
    if life.asked[0].offset >= passed:
        if found.passed is None:
            report.waiting["requests"] += life.rejected is None
    elif life.rejected is None:
        report.add(Kind.LOST, life.id, f"was asked for at {where}, a worker has passed it, and it has no status")
    elif found.passed is not None:
        report.add(Kind.LOST, life.id, f"was refused ({life.rejected}) at {where}, and no status says so")


def _judge_last(life: EmailHistory, published: EmailStatus, found: PartitionLives, report: Report) -> None:
    last = life.last_published
    if last is None or order_of_merge(last) >= order_of_merge(published):
        return
    if found.passed is not None and life.last_offset >= found.passed.statuses:
        report.behind += 1  # the next owner of the partition writes it over
    else:
        report.add(Kind.STALE, life.id, f"{last.status} of a former owner is on top of {published.status}")


def _judge_controls(life: EmailHistory, decided: int, found: PartitionLives, report: Report) -> None:
    """A control that was passed has won a claim, or stands refused in the status: each raises what it has decided.

    ``decided``: the highest one, by the status or by a claim that won: that is enough, and its status may come later.
    """
    undecided = next((place for place in life.controls if place.offset > decided), None)
    if undecided is not None and (_waits(life.published) or _was_called_after(life, undecided)):
        where = f"{topics.REQUESTED.name} {found.partition}/{undecided.offset}"
        report.add(Kind.LOST, life.id, f"the control at {where} was passed by a worker, and nothing decided it")


def _was_called_after(life: EmailHistory, control: Place) -> bool:
    """Whether a call was claimed behind the control. Of an email that was over a refusal is no loss."""
    claims = ((place, record) for place, record in life.attempts if isinstance(record, ClaimRecord))
    return any(place.at > control.at and record.instead is None for place, record in claims)


def _judge_status(
    life: EmailHistory, published: EmailStatus, told: EmailStatus, found: PartitionLives, report: Report
) -> None:
    passed = found.passed
    if (difference := _difference(published, told)) is None:
        return
    if passed is not None and any(_difference(published, shown) is None for shown in statuses_before(life, passed)):
        report.behind += 1
    else:
        report.add(Kind.NOT_THE_FOLD, life.id, difference)


def _judge_calls(life: EmailHistory, told: Fold, report: Report) -> None:
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
    if published.status not in ACCEPTED and (published.attempt, published.nonce) != (told.attempt, told.nonce):
        return f"published with attempt {published.attempt}, the log says {told.attempt}"
    return None
