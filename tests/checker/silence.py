"""I9: recovery. How long no call was made though an email was due, and whether what the nemesis did explains it.

Two measures. After a kill with emails waiting in the dead worker's partitions: until the next call there. Any call counts: what came
later in a higher lane goes first, and whether a queue is forgotten is asked apart. And for the account as a whole: between one call
and the next while emails were due. Time in which nothing could be claimed (no
broker, no worker that runs, the attempts refused) does not count. A further blow to a worker allows more time, because the group
has to settle again; but it never sets the clock back, and all of them together allow no more than ``Run.most_silences`` bounds.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import inf

from mailstream.domain import topics
from mailstream.domain.attempt import ClaimRecord, Instead
from mailstream.domain.request import Batch, Lane
from tests.checker.blows import Blow, all_paused, seconds_without
from tests.checker.claims import Life
from tests.checker.said import Finding, Said, Unjudged
from tests.support.history import History
from tests.support.history_logs import FaultKind

#: Of the normal recovery beyond session timeout and gap.
RECOVERY_SECONDS = 5.0
#: An answer of these lets the account pause, for this long at most.
_PAUSES = frozenset({"429", "401", "403", "500", "502", "503", "504", "drop", "reset", "silent", "slow", "slow_body"})
LONGEST_PAUSE_SECONDS = 330.0
_ACCOUNT = "account"
#: Two that came due so far apart are never claimed in the other order.
PASSED_OVER_SECONDS = 60.0
_UNSETTLES = frozenset({FaultKind.KILL, FaultKind.PAUSE, FaultKind.CUT, FaultKind.STOP, FaultKind.EXIT})


@dataclass(frozen=True, slots=True)
class Silence:
    """No call from ``begins`` to ``ends`` although one was due; ``ends`` None: none until the end of the history."""

    after: str
    begins: float
    ends: float | None
    seconds: float  #: those in which a call could have been made
    allowed: float


@dataclass(frozen=True, slots=True)
class _Wait:
    """An email that is due: asked for, and not claimed yet."""

    id: str
    partition: int
    begins: float
    ends: float  #: its first claim
    calls: tuple[float, ...]  #: or its claims, when its worker never came to call
    queue: tuple[int, Lane]  #: partition and lane: from one of these they go in the order in which they came due
    recipient: str


def i9_recovers(history: History) -> Said:
    """No silence is longer than its bound, and after a kill there is an end to it."""
    waits = _waits(history)
    for silence in (*recoveries(history, waits), *_of_account(history, waits)):
        if silence.ends is None and silence.after != _ACCOUNT:
            yield Finding("I9", silence.after, "was killed, and none of the emails that waited was called again")
        elif silence.seconds > silence.allowed:
            what = f"{silence.seconds:.1f} s without a call though one was due; {silence.allowed:.1f} s are allowed"
            yield Finding("I9", silence.after, what)
    yield from _passed_over(history, waits)
    if not_placed := _not_placed(history):
        yield Unjudged("I9", f"{not_placed} emails", "only a batch asks for it, or a digest says when it is due")


def recoveries(history: History, waits: list[_Wait] | None = None) -> list[Silence]:
    """Each killed worker with emails waiting in its partitions, and how long nothing was called there."""
    waits = _waits(history) if waits is None else waits
    members, still, last, found = _members(history), _still(history), dict[int, str](), list[Silence]()
    claims = sorted(
        (record.at, record.partition, record.value.worker)
        for record in history.in_log_order(topics.ATTEMPTS.name)
        if isinstance(record.value, ClaimRecord)
    )
    calls = defaultdict[int, list[float]](list)
    for wait in waits:
        calls[wait.partition] += wait.calls
    for times in calls.values():
        times.sort()
    reached = 0
    for kill in sorted(history.faults, key=lambda fault: fault.at):
        if kill.kind is not FaultKind.KILL:
            continue
        while reached < len(claims) and claims[reached][0] <= kill.at:
            last[claims[reached][1]] = claims[reached][2].split("/")[0]
            reached += 1
        owned = {partition for partition, claimer in last.items() if claimer == kill.target}
        if any(w.partition in owned and w.begins < kill.at < w.ends for w in waits):
            next_calls = (at for partition in owned if (at := _first_after(calls[partition], kill.at)) is not None)
            found.append(_silence(history, kill.target, kill.at, min(next_calls, default=None), members, still))
    return found


def _first_after(times: list[float], at: float) -> float | None:
    index = bisect_right(times, at)
    return times[index] if index < len(times) else None


def _silence(
    history: History, after: str, begins: float, ends: float | None, members: frozenset[str], still: list[Blow]
) -> Silence:
    until = history.ended_at if ends is None else ends
    seconds = until - begins - seconds_without(still, begins, until)
    return Silence(after, begins, ends, seconds, _allowed(history, begins, until, members))


def _allowed(history: History, begins: float, until: float, members: frozenset[str]) -> float:
    """The bound, from the last blow that unsettled the group; what never claimed is no member and unsettles no group."""
    bound = _bound(history)
    last = begins
    for blow in history.blows:
        if blow.stops_all:
            last = max(last, blow.ends) if begins <= blow.ends <= until else last
        elif blow.kind in _UNSETTLES and blow.target in members:
            last = max(last, *(at for at in (blow.begins, blow.ends) if begins <= at <= until), begins)
    return min(bound + last - begins, history.run.most_silences * bound)


def _bound(history: History) -> float:
    return history.run.session_timeout_seconds + RECOVERY_SECONDS + history.run.gap_seconds


def _members(history: History) -> frozenset[str]:
    return frozenset(claim.worker.split("/")[0] for claim in history.claims.values())


def _still(history: History) -> list[Blow]:
    """When nothing could be claimed."""
    signs: dict[str, list[float]] = defaultdict(list)
    for record in sorted(history.in_log_order(topics.ATTEMPTS.name), key=lambda record: record.at):
        signs[record.value.worker.split("/")[0]].append(record.at)
    return [*(b for b in history.blows if b.stops_all), *all_paused(history.blows, signs)]


def _of_account(history: History, waits: list[_Wait]) -> Iterator[Silence]:
    """Where nothing at all was called though one email was due from beginning to end."""
    members, still, bound = _members(history), _still(history), _bound(history)
    calls = sorted(history.calls, key=lambda call: call.at)
    begins = [-inf, *(call.at for call in calls)]
    answers = ["", *(call.answer for call in calls)]
    for n, (begin, end) in enumerate(pairwise([*begins, history.ended_at])):
        if end - begin <= bound or (answers[n] in _PAUSES and end - begin <= LONGEST_PAUSE_SECONDS):
            continue
        for first, last in _together(waits, begin, end):
            is_over = n < len(calls) or last < end
            yield _silence(history, _ACCOUNT, first, last if is_over else None, members, still)


def _together(waits: list[_Wait], begin: float, end: float) -> Iterator[tuple[float, float]]:
    """The stretches between these two moments in which some email was due."""
    first = last = -inf
    for wait in waits:  # in order of their beginning
        begins, ends = max(wait.begins, begin), min(wait.ends, end)
        if begins >= ends:
            continue
        if begins > last:
            if first > -inf:
                yield first, last
            first, last = begins, ends
        last = max(last, ends)
    if first > -inf:
        yield first, last


def _waits(history: History) -> list[_Wait]:
    """When each email was due and not yet claimed, before its first attempt."""
    found = []
    for id_, asked in history.requests.items():
        own = [(record, request) for record, request in asked if not isinstance(record.value, Batch)]
        if not own or own[0][1].digest is not None:
            continue
        (record, request), life = own[0], history.lives.get(id_, Life())
        ends = min((attempt.at for attempt in life.won), default=inf)
        if life.ended(Instead.RESCHEDULED) or (ends == inf and id_ in history.final and history.final[id_].final):
            continue  # it got another time, or was refused or ended without a claim
        begins = max(record.at, request.send_at.timestamp() if request.send_at is not None else -inf)
        calls = tuple(call.at for call in history.real_calls.get(id_, ())) or tuple(a.at for a in life.calls)
        if calls or not life.won:  # else it ended without a call, and says nothing about calls
            queue = record.partition, request.lane
            found.append(_Wait(id_, record.partition, begins, ends, calls, queue, id_.split("_")[1]))
    return sorted(found, key=lambda wait: wait.begins)


def _passed_over(history: History, waits: list[_Wait]) -> Said:
    """No email is forgotten: what came due long after it does not go before it, unless its recipient has another mail."""
    by_queue, by_recipient = defaultdict[tuple[int, Lane], list[_Wait]](list), Counter(wait.recipient for wait in waits)
    for wait in waits:
        by_queue[wait.queue].append(wait)
    for queue in by_queue.values():
        claimed = [*accumulate((wait.ends for wait in reversed(queue)), min)][::-1]  # the first of all from here on
        starts = [wait.begins for wait in queue]
        for wait in queue:
            later = bisect_right(starts, wait.begins + PASSED_OVER_SECONDS)
            if later < len(queue) and claimed[later] < min(wait.ends, history.ended_at):
                if by_recipient[wait.recipient] > 1:
                    yield Unjudged("I9", wait.id, "passed over, and its recipient had other mails")
                else:
                    seconds = min(wait.ends, history.ended_at) - wait.begins
                    what = f"waited for {seconds:.0f} s, and what came due {PASSED_OVER_SECONDS:.0f} s later went first"
                    yield Finding("I9", wait.id, what)


def _not_placed(history: History) -> int:
    return sum(
        all(isinstance(record.value, Batch) for record, _ in asked) or asked[0][1].digest is not None
        for asked in history.requests.values()
    )
