"""I5: no illegal step, no lower rank, no replica that goes back."""

import heapq
from collections import defaultdict
from collections.abc import Mapping

from mailstream.domain.status import EmailStatus, Status, rank_of
from tests.checker.said import Finding, Said, Unjudged
from tests.checker.shown import ACCEPTED
from tests.support.history import History
from tests.support.history_logs import Lookup

_ENDINGS = {Status.CANCELLED, Status.EXPIRED, Status.SUPPRESSED, Status.FAILED, Status.UNCONFIRMED}
#: What may follow at once (the table of statuses in README.md). Evidence of acceptance may come to all that is not proven unsent.
STEPS: Mapping[Status, frozenset[Status]] = {
    Status.QUEUED: frozenset({Status.QUEUED, Status.PROCESSING, *_ENDINGS, *ACCEPTED}),
    Status.PROCESSING: frozenset(
        {Status.QUEUED, Status.HELD, Status.RETRYING, Status.FAILED, Status.UNCONFIRMED, *ACCEPTED}
    ),
    Status.HELD: frozenset(
        {Status.QUEUED, Status.PROCESSING, Status.RETRYING, Status.FAILED, Status.UNCONFIRMED, *ACCEPTED}
    ),
    Status.RETRYING: frozenset({Status.QUEUED, Status.PROCESSING, *_ENDINGS, *ACCEPTED}),
    Status.UNCONFIRMED: frozenset({Status.FAILED, *ACCEPTED}),
    Status.FAILED: frozenset(ACCEPTED),
    Status.CANCELLED: frozenset(),
    Status.EXPIRED: frozenset(),
    Status.SUPPRESSED: frozenset(),
    Status.REJECTED: frozenset(),
} | {status: frozenset(ACCEPTED[n:]) for n, status in enumerate(ACCEPTED)}


def _reachable() -> Mapping[Status, frozenset[Status]]:
    """What may follow at last: published statuses may leave steps out."""
    reach = {status: set(after) | {status} for status, after in STEPS.items()}
    for _ in STEPS:
        for after in reach.values():
            after.update(*(reach[status] for status in tuple(after)))
    return {status: frozenset(after) for status, after in reach.items()}


REACHABLE = _reachable()


def i5_no_illegal_step(history: History) -> Said:
    """Statuses go the ways of README.md, in the topic, on the timelines and in each replica's answers."""
    for id_, published in history.statuses.items():
        yield from _steps_in_topic(id_, [status for _, status in published])
        yield from _steps_on_timeline(id_, history.final[id_])
    answers: dict[tuple[str, str], list[Lookup]] = defaultdict(list)
    for lookup in history.lookups:
        if lookup.status is not None and lookup.rank is not None:
            answers[lookup.id, lookup.replica].append(lookup)
    for (id_, replica), seen in answers.items():
        yield from _steps_in_answers(id_, replica, seen)


def _steps_in_answers(id_: str, replica: str, seen: list[Lookup]) -> Said:
    """Compared is what had been answered before the next question was asked, however often the replica was killed."""
    highest: Lookup | None = None
    under_way: list[tuple[float, int, Lookup]] = []  # by when they were answered
    for number, lookup in enumerate(sorted(seen, key=lambda lookup: lookup.at)):
        while under_way and under_way[0][0] <= lookup.at:
            answered = heapq.heappop(under_way)[2]
            if highest is None or _rank(answered) > _rank(highest):
                highest = answered
        heapq.heappush(under_way, (_ended(lookup), number, lookup))
        if highest is None or lookup.status is None or highest.status is None:
            continue
        if _rank(lookup) < _rank(highest):
            yield Finding("I5", id_, f"{replica} went back from {highest.status} to {lookup.status}")
        elif lookup.status not in REACHABLE[highest.status]:
            yield Finding("I5", id_, f"{replica} showed {lookup.status} after {highest.status}")


def _ended(lookup: Lookup) -> float:
    return lookup.at if lookup.ended_at is None else lookup.ended_at


def _rank(lookup: Lookup) -> int:
    return lookup.rank or 0


def _steps_in_topic(id_: str, published: list[EmailStatus]) -> Said:
    """A former owner may put an old status on top: the owner must then write its own again."""
    stands = published[0]
    for status in published:
        if status.rank != rank_of(status.status, status.attempt):
            yield Finding("I5", id_, f"{status.status} was published with another rank than its own")
    for status in published[1:]:
        if status.rank < stands.rank:
            if status.writer == stands.writer:
                yield Finding("I5", id_, f"{status.status} was published after {stands.status} by the same writer")
        elif status.status not in REACHABLE[stands.status]:
            yield Finding("I5", id_, f"{status.status} was published after {stands.status}")
        stands = max(stands, status, key=lambda s: s.rank)
    if published[-1].rank < stands.rank:
        yield Finding("I5", id_, f"{published[-1].status} of a former owner stayed on top of {stands.status}")


def _steps_on_timeline(id_: str, status: EmailStatus) -> Said:
    if status.timeline_dropped:
        yield Unjudged("I5", id_, "its timeline is shortened, and neighbours on it were none in life")
        return
    stands, rank = status.timeline[0].status, -1
    for fact in status.timeline:
        if fact.status is None or rank_of(fact.status, fact.attempt) < rank:
            continue  # a fact that moves nothing
        if stands is not None and fact.status is not stands and fact.status not in STEPS[stands]:
            yield Finding("I5", id_, f"its timeline goes from {stands} to {fact.status}")
        stands, rank = fact.status, rank_of(fact.status, fact.attempt)
