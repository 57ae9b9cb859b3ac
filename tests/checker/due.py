"""I18: never early, never after its time. I19: each lane has its share."""

from bisect import bisect_left
from collections import Counter, defaultdict
from math import inf

from mailstream.domain.attempt import Instead
from mailstream.domain.request import Batch, EmailRequest, Lane
from tests.checker.blows import hitting
from tests.checker.claims import Attempt, Life
from tests.checker.said import STAMP_SECONDS, Finding, Said, Unjudged
from tests.support.history import History

#: Between the look at expires_at and the claim in the log.
EXPIRY_SECONDS = 1.0
#: Of 21 starts with all lanes waiting: 16 critical, 4 normal, 1 bulk (docs/api.md).
_SHARES = {Lane.CRITICAL: 16, Lane.NORMAL: 4, Lane.BULK: 1}
#: So long an email may wait before a worker has it in its schedule.
SEEN_SECONDS = 1.0
#: Starts beyond its share that a lane may have had: those that were handed out before.
SPARE = 4


def i18_in_its_time(history: History) -> Said:
    """No call before the time that holds then, and no claim behind expires_at."""
    asked = {ask.id: ask for ask in history.asks if ask.id is not None and ask.send_at is not None}
    for id_, calls in history.real_calls.items():
        life, request = history.lives.get(id_, Life()), _request(history, id_)
        if request is None and id_ not in asked:
            continue
        for call in calls:
            claim = life.by_nonce(call.nonce)
            due = _due_at(life, request, asked[id_].send_at if id_ in asked else None, claim.at if claim else call.at)
            if call.at < due - STAMP_SECONDS:
                yield Finding("I18", id_, f"was called {due - call.at:.3f} s before its time")
    for id_, life in history.lives.items():
        request = _request(history, id_)
        if request is None or request.expires_at is None:
            continue
        end = request.expires_at.timestamp()
        for attempt in life.calls:
            is_late = attempt.at > end + EXPIRY_SECONDS
            if is_late and not any(hitting(history.blows, attempt.claim.worker, end, attempt.at)):
                yield Finding("I18", id_, f"was claimed for a call {attempt.at - end:.1f} s after its expires_at")


def _request(history: History, id_: str) -> EmailRequest | None:
    return next((request for _, request in history.requests.get(id_, ())), None)


def _due_at(life: Life, request: EmailRequest | None, asked: float | None, at: float) -> float:
    changes = [a for a in life.ended(Instead.RESCHEDULED) if a.at <= at]
    if changes:
        return changes[-1].claim.not_before.timestamp() if changes[-1].claim.not_before else -inf
    named = request.send_at.timestamp() if request is not None and request.send_at is not None else -inf
    return max(named, asked if asked is not None else -inf)


def i19_lanes_have_their_share(history: History) -> Said:
    """While an email waited for its lane's turn, its worker claimed no more of another lane than its share allows."""
    started: dict[str, list[tuple[float, Lane, str]]] = defaultdict(list)
    lanes: dict[str, Lane] = {}
    busy: dict[str, list[Attempt]] = defaultdict(list)
    for id_, life in history.lives.items():
        if (request := _request(history, id_)) is None or not life.calls:
            continue
        lanes[id_] = request.lane
        for attempt in life.calls:
            started[attempt.claim.worker].append((attempt.at, request.lane, id_))
            busy[id_.split("_")[1]].append(attempt)
    if len(set(lanes.values())) < 2:
        return
    for claims in started.values():
        claims.sort()
    writers = _writers(history)
    for id_, lane in lanes.items():
        first = history.lives[id_].won[0]
        since = _seen_at(history, id_)
        owned = _owned_since(writers[first.record.partition], first)
        if owned is None:
            yield Unjudged("I19", id_, "its worker had just taken over its partition")
        elif first.claim.instead is not None or since is None:
            yield Unjudged("I19", id_, "it got another time, or a digest or batch says when it is due")
        elif any(a.claim.id != id_ and a.at <= first.at and _until(a) >= since for a in busy[id_.split("_")[1]]):
            yield Unjudged("I19", id_, "another email of its recipient was in work")
        else:
            yield from _shares(id_, lane, max(since, owned + SEEN_SECONDS), first, started[first.claim.worker])


def _writers(history: History) -> dict[int, list[tuple[float, str]]]:
    """Who wrote in each partition, and when: that is its owner."""
    found: dict[int, list[tuple[float, str]]] = defaultdict(list)
    for published in history.statuses.values():
        for record, status in published:
            found[record.partition].append((record.at, status.writer))
    for life in history.lives.values():
        for attempt in life.attempts:
            found[attempt.record.partition].append((attempt.at, attempt.claim.worker))
    for all_ in found.values():
        all_.sort()
    return found


def _owned_since(writers: list[tuple[float, str]], first: Attempt) -> float | None:
    """The first sign, before its claim, that its worker owned the partition without a break."""
    since = None
    for at, writer in reversed(writers[: bisect_left(writers, (first.at, ""))]):
        if writer != first.claim.worker:
            break
        since = at
    return since


def _seen_at(history: History, id_: str) -> float | None:
    """When a worker had it as one that is due; every later owner has it from then on too."""
    own = [(r, request) for r, request in history.requests[id_] if not isinstance(r.value, Batch)]
    if not own or own[0][1].digest is not None or id_ not in history.statuses:
        return None
    due = own[0][1].send_at.timestamp() if own[0][1].send_at is not None else -inf
    return max(history.statuses[id_][0][0].at, due) + SEEN_SECONDS


def _until(attempt: Attempt) -> float:
    return attempt.word_record.at if attempt.word_record is not None else inf


def _shares(id_: str, lane: Lane, since: float, first: Attempt, claims: list[tuple[float, Lane, str]]) -> Said:
    counts = Counter[Lane]()
    for at, other, _ in claims:
        if since < at < first.at:
            counts[other] += 1
    for other, count in counts.items():
        most = (counts[lane] + 2) * _SHARES[other] / _SHARES[lane] + SPARE
        if other is not lane and count > most:
            what = f"{count} {other} emails were claimed before it, and {counts[lane]} of its own lane"
            yield Finding("I19", id_, f"waited as {lane}: {what}; {most:.0f} are its share")
