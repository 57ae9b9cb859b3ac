"""Invariants about the run as a whole: the gap, bounds, recovery, secrets, poison (I7–I9, I11, I12)."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import median_low

from dev.sendgrid.ledger import Call
from mailstream import topics
from mailstream.attempt import ClaimRecord, OutcomeRecord
from mailstream.status import LIVE
from tests.support.history import Finding, History
from tests.support.history_logs import FaultKind

#: Allowed between the starts of two calls of different workers: the error of their clocks (guarantees §5).
CLOCK_ERROR_SECONDS = 0.005
#: A datetime has microseconds.
ROUNDING_SECONDS = 2e-6
#: Of the normal recovery beyond session timeout and gap (amendment 8).
RECOVERY_SECONDS = 5.0
NEIGHBOUR_SECONDS = 1.0
_DISTURBS = frozenset(FaultKind) - {FaultKind.EXIT}


def i7_never_faster_than_the_gap(history: History) -> Iterator[Finding]:
    """Starts of two calls are a gap apart: by the provider's clock, and by what the workers recorded."""
    yield from (finding for finding, is_apart in _short_gaps(history) if not is_apart)


def gaps_apart(history: History) -> list[Finding]:
    """Those whose earlier call was late to arrive, though it started in time: no finding, listed apart."""
    return [finding for finding, is_apart in _short_gaps(history) if is_apart]


def _short_gaps(history: History) -> Iterator[tuple[Finding, bool]]:
    run = history.run
    if not run.gap_seconds:
        return
    calls = _calls_with_gap(history)
    if run.is_rate_only or run.burst > 1:
        starts = [call.monotonic_ns / 1e9 for call in calls]
        yield from ((finding, False) for finding in _too_many(starts, run.gap_seconds, run.burst))
        return
    for before, after in pairwise(calls):
        distance = (after.monotonic_ns - before.monotonic_ns) / 1e9
        allowed = _allowed(history, _worker(history, before.nonce), _worker(history, after.nonce))
        if distance < allowed - run.arrival_slack_seconds:
            finding = Finding("I7", f"{before.id} → {after.id}", f"{distance:.6f} s apart at the provider")
            yield finding, _was_late_to_arrive(history, before)
    lags = [lag for call in calls if (lag := _lag(history, call)) is not None]
    if lags and (usual := median_low(lags)) > run.arrival_slack_seconds:
        # a single late arrival is chance; if it were usual, the recorded starts would not be the real ones
        yield (
            Finding("I7", "starts", f"half of the calls arrive {usual:.3f} s and more after their recorded start"),
            False,
        )
    for (start, worker, id_), (later, other, after_id) in pairwise(_recorded_starts(history)):
        if later - start < _allowed(history, worker, other):
            yield Finding("I7", f"{id_} → {after_id}", f"{later - start:.6f} s apart as recorded"), False


def _calls_with_gap(history: History) -> list[Call]:
    """All calls, probes too: the gap is the account's."""
    return sorted(history.calls, key=lambda call: call.monotonic_ns)


def _recorded_starts(history: History) -> list[tuple[float, str, str]]:
    """An outcome whose acknowledgement was lost stands in the log twice: the same nonce and start are one call."""
    starts = {
        (record.started_at.timestamp(), record.worker, id_, record.nonce)
        for id_, all_ in history.attempts.items()
        for _, record in all_
        if isinstance(record, OutcomeRecord) and record.started_at is not None
    }
    return [(start, worker, id_) for start, worker, id_, _ in sorted(starts)]


def _allowed(history: History, worker: str | None, other: str | None) -> float:
    is_one = worker is not None and worker == other
    return history.run.gap_seconds - (ROUNDING_SECONDS if is_one else CLOCK_ERROR_SECONDS)


def _worker(history: History, nonce: str | None) -> str | None:
    claim = history.claims.get(nonce or "")
    return claim.worker if claim else None


def _too_many(starts: Sequence[float], gap: float, burst: int) -> Iterator[Finding]:
    """With saved turns or shares the rate is kept: n calls take at least (n - 1 - burst) gaps."""
    for length in (burst + 1, 10 + burst, 100 + burst, 1000 + burst):
        for first, last in zip(starts, starts[length:], strict=False):
            if last - first < (length - burst) * gap - CLOCK_ERROR_SECONDS:
                yield Finding("I7", "rate", f"{length + 1} calls in {last - first:.3f} s")
                return


def _was_late_to_arrive(history: History, call: Call) -> bool:
    """Whether the call was on its way for long: its worker was stopped behind the gate, or had no processor."""
    if (lag := _lag(history, call)) is not None:
        return lag > history.run.arrival_slack_seconds
    begun = call.at - history.run.session_timeout_seconds  # it died before it could say when it started
    worker = _worker(history, call.nonce)
    pauses = [
        f for f in history.faults if f.kind in (FaultKind.PAUSE, FaultKind.RESUME) and worker and _is(worker, f.target)
    ]
    return any(begun <= fault.at <= call.at + CLOCK_ERROR_SECONDS for fault in pauses)


def _lag(history: History, call: Call) -> float | None:
    """Seconds from the start that the worker recorded to the first byte at the provider; None when none is recorded."""
    recorded = [
        record.started_at.timestamp()
        for _, record in history.attempts.get(call.id or "", ())
        if isinstance(record, OutcomeRecord) and record.nonce == call.nonce and record.started_at is not None
    ]
    return call.at - min(recorded) if recorded else None


def _is(writer: str, target: str) -> bool:
    """A writer is a worker id with its boot behind it."""
    return writer == target or writer.startswith(f"{target}/")


def smallest_gap(history: History) -> float | None:
    """The least seconds between two calls at the provider."""
    return min(((b.monotonic_ns - a.monotonic_ns) / 1e9 for a, b in pairwise(_calls_with_gap(history))), default=None)


def i8_within_bounds(history: History) -> Iterator[Finding]:
    """Every sampled value stays below its limit."""
    for sample in history.samples:
        limit = history.run.limits.get(sample.what)
        if limit is not None and sample.value > limit:
            yield Finding("I8", sample.process, f"{sample.what} was {sample.value:g}; {limit:g} is the limit")


def i9_recovers(history: History) -> Iterator[Finding]:
    """After a kill the emails of the dead worker's partitions go on in time."""
    run = history.run
    bound = run.session_timeout_seconds + RECOVERY_SECONDS + run.gap_seconds
    for worker, seconds in recoveries(history):
        if seconds is None:
            yield Finding("I9", worker, "was killed, and none of the emails that waited was called again")
        elif seconds > bound:
            yield Finding(
                "I9", worker, f"{seconds:.1f} s until the first call after its kill; {bound:.1f} s are allowed"
            )


def recoveries(history: History) -> list[tuple[str, float | None]]:
    """Each killed worker with emails waiting in its partitions: seconds until one of them was called. None: never.

    The time counts from the last fault before that call: who is disturbed again starts again.
    """
    found: list[tuple[str, float | None]] = []
    for kill in history.faults:
        if kill.kind is not FaultKind.KILL:
            continue
        waiting = _waiting_at(history, kill.at, _partitions_of(history, kill.target, kill.at))
        if not waiting:
            continue
        later = sorted(call.at for call in history.calls if call.id in waiting and call.at > kill.at)
        if not later:
            found.append((kill.target, None))
            continue
        disturbed = max(f.at for f in history.faults if f.kind in _DISTURBS and kill.at <= f.at < later[0])
        found.append((kill.target, later[0] - disturbed))
    return found


def _partitions_of(history: History, worker: str, at: float) -> set[int]:
    """Where the worker was the last to claim."""
    last: dict[int, str] = {}
    for record in history.in_log_order(topics.ATTEMPTS.name):
        if record.at <= at and isinstance(record.value, ClaimRecord):
            last[record.partition] = record.value.worker
    return {partition for partition, claimer in last.items() if _is(claimer, worker)}


def _waiting_at(history: History, at: float, partitions: set[int]) -> set[str]:
    """Emails that were due, asked for before and not called yet."""
    called = {call.id for call in history.calls if call.at <= at}
    return {
        id_
        for id_, asked in history.requests.items()
        for record, request in asked[:1]
        if record.partition in partitions
        and record.at < at
        and id_ not in called
        and (request.send_at is None or request.send_at.timestamp() <= at)
        and (id_ not in history.final or history.final[id_].status in LIVE or id_ in history.accepted)
    }


def i11_no_secret_leaks(history: History) -> Iterator[Finding]:
    """No planted address, key, subject or body stands in a log, trace, metric or error answer."""
    for where, text in history.texts.items():
        for number, line in enumerate(text.splitlines(), 1):
            for name, secret in history.canaries.items():
                if secret in line:
                    yield Finding("I11", where, f"line {number} has the planted {name}")


def i12_poison_harms_nobody(history: History) -> Iterator[Finding]:
    """Dead letters are exactly those that were planted, neighbours are not delayed, no worker ends."""
    planted = {(poison.partition, poison.offset): poison.reason for poison in history.planted}
    for place, reason in planted.items():
        reasons = set(history.dead_letters.get(place, ()))
        if reasons != ({reason} if reason else set()):
            yield Finding("I12", str(place), f"planted as {reason}, found as {', '.join(sorted(reasons)) or 'nothing'}")
    if planted:
        for place in sorted(history.dead_letters.keys() - planted.keys()):
            yield Finding("I12", str(place), "is a dead letter that nobody planted")
        yield from _delayed_neighbours(history, set(planted))
    asked_to_end = [f for f in history.faults if f.kind in (FaultKind.KILL, FaultKind.STOP)]
    for ended in history.faults:
        if ended.kind is FaultKind.EXIT and not any(
            f.target == ended.target and f.at <= ended.at for f in asked_to_end
        ):
            yield Finding("I12", ended.target, f"ended by itself with exit code {ended.code}")


def _delayed_neighbours(history: History, places: set[tuple[int, int]]) -> Iterator[Finding]:
    for id_, asked in history.requests.items():
        record = asked[0][0]
        is_neighbour = {(record.partition, record.offset - 1), (record.partition, record.offset + 1)} & places
        if not is_neighbour or id_ not in history.statuses:
            continue
        first = min(published.at for published, _ in history.statuses[id_])
        is_disturbed = any(f.kind in _DISTURBS and f.at <= first for f in history.faults)
        if first - record.at > NEIGHBOUR_SECONDS and not is_disturbed:
            yield Finding(
                "I12", id_, f"stands beside a poison record and got its status after {first - record.at:.1f} s"
            )
