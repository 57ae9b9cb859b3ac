"""Invariants about single emails: nothing lost, nothing sent twice, no lies, no illegal step, order, audit (I1–I6, I10)."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import pairwise

from mailstream.attempt import ClaimRecord
from mailstream.recipient import canonical
from mailstream.request import EmailRequest, Lane, OnAmbiguous
from mailstream.status import EmailStatus, Status, rank_of
from tests.support.history import Finding, History
from tests.support.history_logs import Result

NOT_SENT = frozenset({Status.CANCELLED, Status.EXPIRED, Status.SUPPRESSED, Status.FAILED, Status.REJECTED})
#: In the order of their steps: a later one may follow an earlier one.
ACCEPTED = (Status.SENT, Status.DEFERRED, Status.DROPPED, Status.BLOCKED, Status.DELIVERED, Status.BOUNCED)

_ENDINGS = {Status.CANCELLED, Status.EXPIRED, Status.SUPPRESSED, Status.FAILED, Status.UNCONFIRMED}
#: What may follow at once (guarantees §3). Evidence of acceptance may come to whatever is not proven unsent.
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


def i1_nothing_is_lost(history: History) -> Iterator[Finding]:
    """Whatever got a 202, or stands in ``email.requested``, has a status or a dead letter."""
    promised = {ask.id for ask in history.asks if ask.result is Result.OK and ask.code == 202 and ask.id}
    for id_ in sorted(promised - history.requests.keys() - history.statuses.keys()):
        yield Finding("I1", id_, "was answered with 202, and no record asks for it")
    for id_, asked in history.requests.items():
        rejected = all((record.partition, record.offset) in history.dead_letters for record, _ in asked)
        if id_ not in history.statuses and not rejected:
            yield Finding("I1", id_, f"stands in email.requested at {asked[0][0].place[1:]}, and has no status")


def unfinished(history: History) -> list[str]:
    """Emails that wait, visibly, when the run ends: no finding, but to be looked at."""
    return sorted(id_ for id_, status in history.final.items() if not status.final)


def i2_no_unmarked_duplicate(history: History) -> Iterator[Finding]:
    """Of the accepted calls of an email all but one are marked, and each call is that of a winning claim."""
    for id_, calls in history.accepted.items():
        marked = sum(bool(call.nonce and _is_marked(history, call.nonce)) for call in calls)
        if len(calls) - 1 - marked > 0:
            yield Finding("I2", id_, f"{len(calls)} accepted calls, {marked} of them marked")
    winners = _winners(history)
    for call in history.calls:
        if call.id is not None and not call.is_sandbox and call.nonce not in winners:
            yield Finding("I2", call.id, f"was called (attempt {call.attempt}) without a claim that won")


def _is_marked(history: History, nonce: str) -> bool:
    return nonce in history.claims and history.claims[nonce].possible_duplicate


def _winners(history: History) -> set[str]:
    """The nonce of the first claim of each attempt."""
    first: dict[tuple[str, int], str] = {}
    for id_, all_ in history.attempts.items():
        for _, record in all_:
            if isinstance(record, ClaimRecord):
                first.setdefault((id_, record.attempt), record.nonce)
    return set(first.values())


def i3_as_often_as_the_caller_chose(history: History) -> Iterator[Finding]:
    """``hold``: accepted once at most; ``resend``: twice."""
    for id_, calls in history.accepted.items():
        most = 2 if history.policy_of(id_) is OnAmbiguous.RESEND else 1
        if len(calls) > most:
            yield Finding("I3", id_, f"{len(calls)} accepted calls; the caller chose at most {most}")


def i4_no_lies(history: History) -> Iterator[Finding]:
    """What was shown is what the provider saw; what was promised is found."""
    shown: dict[str, set[Status]] = defaultdict(set)
    for id_, published in history.statuses.items():
        shown[id_].update(status.status for _, status in published)
    for lookup in history.lookups:
        if lookup.status is not None:
            shown[lookup.id].add(lookup.status)
    for id_, statuses in shown.items():
        times = len(history.accepted.get(id_, ()))
        if lies := sorted(statuses & NOT_SENT) if times else sorted(statuses & set(ACCEPTED)):
            yield Finding("I4", id_, f"{', '.join(lies)} was shown, with {times} accepted calls")
    promised = {a.id: a.ended_at for a in history.asks if a.result is Result.OK and a.code == 202 and a.id}
    for lookup in history.lookups:
        if lookup.code == 404 and lookup.at >= promised.get(lookup.id, float("inf")):
            yield Finding("I4", lookup.id, f"404 from {lookup.replica} after its 202")


def i5_no_illegal_step(history: History) -> Iterator[Finding]:
    """Statuses go the ways of guarantees §3, in the topic, on the timelines and in each replica's answers."""
    for id_, published in history.statuses.items():
        yield from _steps_in_topic(id_, [status for _, status in published])
        yield from _steps_on_timeline(id_, history.final[id_])
    answers: dict[tuple[str, str], list[tuple[Status, int]]] = defaultdict(list)
    for lookup in sorted(history.lookups, key=lambda lookup: lookup.at):
        if lookup.status is not None and lookup.rank is not None:
            answers[lookup.id, lookup.replica].append((lookup.status, lookup.rank))
    for (id_, replica), seen in answers.items():
        for (before, low), (after, high) in pairwise(seen):
            if high < low:
                yield Finding("I5", id_, f"{replica} went back from {before} to {after}")
            elif after not in REACHABLE[before]:
                yield Finding("I5", id_, f"{replica} showed {after} after {before}")


def _steps_in_topic(id_: str, published: list[EmailStatus]) -> Iterator[Finding]:
    """A former owner may put an old status on top (K7): the owner must then write its own again."""
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


def _steps_on_timeline(id_: str, status: EmailStatus) -> Iterator[Finding]:
    if status.timeline_dropped:
        return  # neighbours on a shortened timeline were none in life
    stands, rank = status.timeline[0].status, -1
    for fact in status.timeline:
        if fact.status is None or rank_of(fact.status, fact.attempt) < rank:
            continue  # a fact that moves nothing
        if stands is not None and fact.status is not stands and fact.status not in STEPS[stands]:
            yield Finding("I5", id_, f"its timeline goes from {stands} to {fact.status}")
        stands, rank = fact.status, rank_of(fact.status, fact.attempt)


def i6_order_per_recipient(history: History) -> Iterator[Finding]:
    """Emails of one recipient and lane are first called in the order in which they were asked for, once both are due."""
    yield from (finding for finding, is_apart in _inversions(history) if not is_apart)


def inversions_apart(history: History) -> list[Finding]:
    """Those behind a retry or a hold: no finding, listed apart."""
    return [finding for finding, is_apart in _inversions(history) if is_apart]


def _inversions(history: History) -> Iterator[tuple[Finding, bool]]:
    first_call: dict[str, float] = {}
    for call in history.calls:
        if call.id is not None and not call.is_sandbox:
            first_call[call.id] = min(call.at, first_call.get(call.id, call.at))
    queues: dict[tuple[str, Lane], list[tuple[int, str, EmailRequest]]] = defaultdict(list)
    for id_, asked in history.requests.items():
        record, request = asked[0]
        if id_ in first_call:
            queues[canonical(request.to.email), request.lane].append((record.offset, id_, request))
    for queue in queues.values():
        queue.sort(key=lambda entry: entry[0])
        earliest: tuple[float, str] | None = None  # call among those that were asked for later
        for _, id_, request in reversed(queue):
            if earliest is not None and earliest[0] < first_call[id_] and _due_at(request.send_at) <= earliest[0]:
                finding = Finding("I6", id_, f"was first called after {earliest[1]}, which was asked for later")
                yield finding, _had_trouble(history, id_) or _had_trouble(history, earliest[1])
            if earliest is None or first_call[id_] < earliest[0]:
                earliest = first_call[id_], id_


def _due_at(send_at: datetime | None) -> float:
    return send_at.timestamp() if send_at is not None else float("-inf")


def _had_trouble(history: History, id_: str) -> bool:
    """More than one attempt, or a doubt: what comes after it may overtake."""
    published = (status.status for _, status in history.statuses.get(id_, ()))
    attempts = {record.attempt for _, record in history.attempts.get(id_, ())}
    return len(attempts) > 1 or bool({Status.HELD, Status.RETRYING} & set(published))


def i10_audit_agrees(history: History) -> Iterator[Finding]:
    """`audit verify` sends nothing, and finds that what is published is the fold of the log."""
    for audit in history.audits:
        for id_ in audit.differing:
            yield Finding("I10", id_, "its published status is not the fold of the log")
        if audit.exit_code and not audit.differing:
            yield Finding("I10", "audit", f"ended with exit code {audit.exit_code}")
        calls = sum(audit.started_at <= call.at <= audit.ended_at for call in history.calls)
        if audit.is_system_stopped and calls:
            yield Finding("I10", "audit", f"{calls} provider calls while only the audit ran")
