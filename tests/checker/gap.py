"""I7: starts of two calls are a gap apart, at the provider and as recorded.

What is recorded is the worker's own word. It is believed only as far as others bear it out: a start cannot be before the
brokers stamped its claim, nor behind the call's arrival; late arrivals must be few; and a pair that arrives too close is
excused only by a fault of the earlier call's process between its claim and its arrival. What is left without a fault is
bounded in number and size, as a busy machine may keep any process waiting for some milliseconds.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf

from dev.sendgrid.ledger import Call
from mailstream.domain.attempt import OutcomeRecord
from tests.checker.claims import Attempt
from tests.checker.said import SOCKET_SECONDS, STAMP_SECONDS, Apart, Finding, Said, Unjudged
from tests.support.history import History, Run
from tests.support.history_logs import FaultKind

#: Allowed between the starts of two calls of different workers: the error of their clocks.
CLOCK_ERROR_SECONDS = 0.005
#: A datetime has microseconds.
ROUNDING_SECONDS = 2e-6
#: Of all calls, so many may arrive late, and so many pairs be too close for it, with no fault to name.
LATE_SHARE, LATE_MOST = 0.05, 2
CLOSE_SHARE, CLOSE_MOST = 0.0025, 1
#: A process that waits for a processor longer than this was stopped by something that must be named.
STALL_SECONDS = 0.25
#: From the end of a pause to the first byte of the call that it kept.
AWAKE_SECONDS = 1.0
#: Pairs that one blow may make too close: the call behind the gate, and the one that the next gate let in.
PAIRS_PER_BLOW = 2


@dataclass(frozen=True, slots=True)
class _Late:
    """Why a call came late: a named fault, or nothing but the worker's word (``lag``)."""

    lag: float | None
    fault: str | None


def i7_never_faster_than_the_gap(history: History) -> Said:
    """Starts of two calls are a gap apart: by the provider's clock, and by what the workers recorded."""
    run = history.run
    if not run.gap_seconds:
        return
    calls = sorted(history.calls, key=lambda call: call.monotonic_ns)  # probes too: the gap is the account's
    if run.is_rate_only or run.burst > 1:
        yield from _too_many([call.monotonic_ns / 1e9 for call in calls], run.gap_seconds, run.burst)
        return
    yield from _short_gaps(history, calls)
    yield from _starts(history, calls)
    for (start, worker, id_), (later, other, after_id) in pairwise(_recorded_starts(history)):
        if later - start < _allowed(run, worker, other):
            yield Finding("I7", f"{id_} → {after_id}", f"{later - start:.6f} s apart as recorded")


def _short_gaps(history: History, calls: Sequence[Call]) -> Said:
    run, used, unexplained = history.run, Counter[str](), list[Finding]()
    for before, after in pairwise(calls):
        distance = (after.monotonic_ns - before.monotonic_ns) / 1e9
        claim = _claim_of(history, before)
        allowed = _allowed(run, _worker(history, before), _worker(history, after)) - run.arrival_slack_seconds
        if distance >= allowed:
            continue
        finding = Finding("I7", f"{before.id} → {after.id}", f"{distance:.6f} s apart at the provider")
        if before.id is None:
            unexplained.append(finding)  # a probe: nothing but the gate knows when it started
            continue
        if claim is None or after.at - claim.at < allowed:
            yield finding  # its claim is too young for any explanation
            continue
        late = _why_late(history, before, claim)
        if late.fault is not None and used[late.fault] < PAIRS_PER_BLOW:
            used[late.fault] += 1
            yield Apart("I7", finding.about, f"{finding.what}: {late.fault}")
        elif (
            late.lag is not None
            and run.arrival_slack_seconds < late.lag <= STALL_SECONDS
            and _fits(run, distance + late.lag)
        ):
            unexplained.append(finding)
        else:
            yield finding
    is_few = len(unexplained) <= CLOSE_MOST + CLOSE_SHARE * len(calls)
    for finding in unexplained:
        yield Apart("I7", finding.about, f"{finding.what}: the first came late") if is_few else finding


def _fits(run: Run, distance: float) -> bool:
    return distance >= run.gap_seconds - CLOCK_ERROR_SECONDS - run.arrival_slack_seconds


def _starts(history: History, calls: Sequence[Call]) -> Said:
    """Whether the recorded starts can be the real ones."""
    late, known = [], 0
    for call in calls:
        claim = _claim_of(history, call)
        lag = _lag(call, claim)
        if claim is None or lag is None:
            if call.id is not None:
                yield Unjudged("I7", call.id, "no start of this call is recorded")
            continue
        known += 1
        start = call.at - lag
        if start < claim.at - STAMP_SECONDS:
            yield Finding("I7", claim.claim.id, f"its recorded start is {claim.at - start:.3f} s before its claim")
        if lag < -STAMP_SECONDS:
            yield Finding("I7", claim.claim.id, f"it arrived {-lag:.3f} s before its recorded start")
        if lag > history.run.arrival_slack_seconds and _why_late(history, call, claim).fault is None:
            late.append(lag)
    if len(late) > LATE_MOST + LATE_SHARE * known:
        worst = sorted(late)[len(late) // 2]
        what = f"{len(late)} of {known} calls arrive late, half of them {worst:.3f} s and more, and no fault says why"
        yield Finding("I7", "starts", what)


def _why_late(history: History, call: Call, claim: Attempt) -> _Late:
    """What stood between the claim, or the start if one is recorded, and the arrival."""
    lag = _lag(call, claim)
    begin = claim.at if lag is None else max(claim.at, call.at - lag)
    for blow in history.blows:
        if (
            blow.kind is FaultKind.PAUSE
            and blow.hits(claim.claim.worker)
            and blow.overlaps(begin, call.at)
            and (call.at <= blow.ends + AWAKE_SECONDS)
        ):
            return _Late(lag, f"its worker was paused at {blow.begins:.3f}")
        is_end = blow.kind is FaultKind.KILL and lag is None and blow.hits(claim.claim.worker)
        if is_end and blow.overlaps(begin, call.at + SOCKET_SECONDS):
            return _Late(lag, f"its worker was killed at {blow.begins:.3f}")
    waited = _waited(history, claim.claim.worker.split("/")[0], begin, call.at)
    if lag is not None and waited >= lag - history.run.arrival_slack_seconds > 0:
        return _Late(lag, f"nothing ran for {waited:.3f} s before {call.at:.3f}")
    return _Late(lag, None)


def _waited(history: History, worker: str, begin: float, end: float) -> float:
    """How long the machine, the worker or the provider had no processor between these two moments, as others saw it."""
    stalls = history.stalls
    waited = 0.0
    for sample in stalls[bisect_left(stalls, begin, key=lambda stall: stall.at) :]:
        if sample.at > end + STALL_SECONDS:
            break
        if sample.process in ("machine", "emulator", worker):
            waited = max(waited, min(sample.at, end) - max(sample.at - sample.value, begin))
    return waited


def _claim_of(history: History, call: Call) -> Attempt | None:
    life = history.lives.get(call.id or "")
    return life.by_nonce(call.nonce) if life is not None else None


def _worker(history: History, call: Call) -> str | None:
    claim = _claim_of(history, call)
    return claim.claim.worker if claim is not None else None


def _lag(call: Call, claim: Attempt | None) -> float | None:
    """Seconds from the recorded start to the first byte at the provider; None when none is recorded."""
    word = claim.word if claim is not None else None
    if isinstance(word, OutcomeRecord) and word.started_at is not None:
        return call.at - word.started_at.timestamp()
    return None


def _recorded_starts(history: History) -> list[tuple[float, str, str]]:
    """An outcome whose acknowledgement was lost stands in the log twice: the same nonce and start are one call."""
    starts = {
        (record.started_at.timestamp(), record.worker, id_, record.nonce)
        for id_, all_ in history.attempts.items()
        for _, record in all_
        if isinstance(record, OutcomeRecord) and record.started_at is not None
    }
    return [(start, worker, id_) for start, worker, id_, _ in sorted(starts)]


def _allowed(run: Run, worker: str | None, other: str | None) -> float:
    is_one = worker is not None and worker == other
    return run.gap_seconds - (ROUNDING_SECONDS if is_one else CLOCK_ERROR_SECONDS)


def _too_many(starts: Sequence[float], gap: float, burst: int) -> Iterator[Finding]:
    """With saved turns or shares the rate is kept: n calls take at least (n - 1 - burst) gaps."""
    for length in (burst + 1, 10 + burst, 100 + burst, 1000 + burst):
        for first, last in zip(starts, starts[length:], strict=False):
            if last - first < (length - burst) * gap - CLOCK_ERROR_SECONDS:
                yield Finding("I7", "rate", f"{length + 1} calls in {last - first:.3f} s")
                return


def smallest_gap(history: History) -> float | None:
    """The least seconds between two calls at the provider."""
    at = sorted(call.monotonic_ns for call in history.calls)
    least = min((b - a for a, b in pairwise(at)), default=inf)
    return least / 1e9 if least < inf else None
