"""I4: no lies. What is shown is what the provider had seen by then; what was promised is found."""

from collections import defaultdict

from mailstream.domain.attempt import Instead
from mailstream.domain.request import ControlKind
from mailstream.domain.status import Status
from tests.checker.said import STAMP_SECONDS, Finding, Said
from tests.support.history import History
from tests.support.history_logs import Lookup

NOT_SENT = frozenset({Status.CANCELLED, Status.EXPIRED, Status.SUPPRESSED, Status.FAILED, Status.REJECTED})
#: In the order of their steps: a later one may follow an earlier one.
ACCEPTED = (Status.SENT, Status.DEFERRED, Status.DROPPED, Status.BLOCKED, Status.DELIVERED, Status.BOUNCED)
_SENT = frozenset(ACCEPTED)


def i4_no_lies(history: History) -> Said:
    """Neither a topic nor a look-up says "sent" before the provider took the mail, or "not sent" when it did."""
    shown: dict[str, list[tuple[float, Status]]] = defaultdict(list)
    for id_, published in history.statuses.items():
        shown[id_] += [(record.at, status.status) for record, status in published]
    for lookup in history.lookups:
        if lookup.status is not None:
            shown[lookup.id].append((_known_at(lookup), lookup.status))
    for id_, seen in shown.items():
        yield from _of_one(history, id_, seen)
    yield from _never_published(history)
    yield from _not_found(history)


def _known_at(lookup: Lookup) -> float:
    return lookup.at if lookup.ended_at is None else lookup.ended_at


def _of_one(history: History, id_: str, seen: list[tuple[float, Status]]) -> Said:
    taken = [call.at for call in history.accepted.get(id_, ())]
    if taken and (lies := sorted({status for _, status in seen} & NOT_SENT)):
        yield Finding("I4", id_, f"{', '.join(lies)} was shown, with {len(taken)} accepted calls")
    first = min((at for at, status in seen if status in _SENT), default=None)
    if first is None or _word_of_an_operator(history, id_, first):
        return
    if not taken:
        lies = sorted({status for _, status in seen} & _SENT)
        yield Finding("I4", id_, f"{', '.join(lies)} was shown, with 0 accepted calls")
    elif first < min(taken) - STAMP_SECONDS:
        yield Finding("I4", id_, f"was shown as sent {min(taken) - first:.3f} s before the provider took it")


def _word_of_an_operator(history: History, id_: str, before: float) -> bool:
    """SENT may be an operator's word, by a claim that a control record asked for."""
    life = history.lives.get(id_)
    has_claim = life is not None and any(a.at <= before + STAMP_SECONDS for a in life.ended(Instead.SENT))
    return has_claim and any(
        word.kind is ControlKind.RESOLVE and word.to == "SENT" and record.at <= before + STAMP_SECONDS
        for record, word in history.controls.get(id_, ())
    )


def _never_published(history: History) -> Said:
    first: dict[tuple[str, Status], float] = {}
    for id_, published in history.statuses.items():
        for record, status in published:
            key = id_, status.status
            first[key] = min(record.at, first.get(key, record.at))
    for id_, asked in history.requests.items():
        key = id_, Status.QUEUED  # the API shows what no worker has read yet
        first[key] = min([first.get(key, asked[0][0].at), *(record.at for record, _ in asked)])
    for lookup in history.lookups:
        if lookup.status is None:
            continue
        at = first.get((lookup.id, lookup.status))
        if at is None or at > _known_at(lookup) + STAMP_SECONDS:
            yield Finding("I4", lookup.id, f"{lookup.replica} showed {lookup.status}, which was not published by then")


def _not_found(history: History) -> Said:
    promised = history.promised
    for lookup in history.lookups:
        if lookup.code == 404 and lookup.at >= promised.get(lookup.id, float("inf")):
            yield Finding("I4", lookup.id, f"404 from {lookup.replica} after its 202")
    for word in history.words:
        if word.code == 404 and word.at >= promised.get(word.id, float("inf")):
            yield Finding("I4", word.id, f"404 from {word.replica} to a {word.kind} after its 202")
