"""I15: one idempotency key, one email. The same body gives the same id; another body is refused, by every replica."""

from collections import defaultdict
from collections.abc import Iterable

from mailstream.domain.email_id import hash_in
from mailstream.domain.errors import BadAddress, BadEmailId
from mailstream.domain.recipient import canonical, recipient_hash
from mailstream.domain.request import Batch
from tests.checker.dead_letters import second_bodies
from tests.checker.said import Finding, Said, Unjudged
from tests.support.history import History
from tests.support.history_logs import Ask, Result

#: What another body under a known key, or a repeat at a bad moment, may be answered with.
_REFUSED = frozenset({408, 409, 422, 429, 503})
_BUSY = _REFUSED - {422}


def i15_one_key_one_email(history: History) -> Said:
    """Keys belong to a route and, but for a strict batch, to a recipient."""
    asked: dict[tuple[str, str], list[Ask]] = defaultdict(list)
    for ask in history.asks:
        if ask.key is not None and ask.by == "http":
            asked["batch" if ask.batch is not None else "single", ask.key].append(ask)
    for (route, key), asks in sorted(asked.items()):
        if route == "single":
            by_recipient: dict[int | None, list[Ask]] = defaultdict(list)
            for ask in asks:
                by_recipient[_recipient(ask)].append(ask)
            for unknown in by_recipient.pop(None, ()):  # refused, so it tells nothing of whom it was for
                groups = list(by_recipient.values())
                (groups[0] if len(groups) == 1 else by_recipient[-1]).append(unknown)
            for group in by_recipient.values():
                yield from _of_key(key, group)
        else:
            yield from _of_batches(key, asks)
    yield from _mailed_from_a_refused_batch(history)


def _mailed_from_a_refused_batch(history: History) -> Said:
    """A strict batch that came second under its id, with another content, gives rise to no email."""
    refused = second_bodies(history)
    for id_, asked in history.requests.items():
        batches = {record.place for record, _ in asked if isinstance(record.value, Batch)}
        if batches and batches <= refused and id_ in history.real_calls:
            yield Finding("I15", id_, "was called, and only a batch with another body than its id's first asks for it")


def _recipient(ask: Ask) -> int | None:
    try:
        if ask.to is not None:
            return recipient_hash(canonical(ask.to))
        return hash_in(ask.id) if ask.id is not None else None
    except (BadAddress, BadEmailId):
        return None


def _of_key(key: str, asks: list[Ask]) -> Said:
    yield from _one_body(key, asks)
    bodies: dict[str, list[Ask]] = defaultdict(list)
    for ask in asks:
        bodies[ask.body].append(ask)
    for same in bodies.values():
        yield from _one_id(key, same)
    yield from _refusals(key, asks)


def _one_body(key: str, asks: Iterable[Ask]) -> Said:
    bodies = sorted({ask.body for ask in asks if _is_taken(ask)})
    if len(bodies) > 1:
        yield Finding("I15", key, f"{len(bodies)} different bodies were answered with 202 under one key")


def _one_id(key: str, same: list[Ask]) -> Said:
    ids = {ask.id for ask in same if _is_taken(ask)}
    if len(ids) > 1:
        yield Finding("I15", key, f"the same request was answered with {len(ids)} ids")


def _refusals(key: str, asks: list[Ask]) -> Said:
    """Once one body has its 202, each other one is refused as what it is; the only body of a key is never a conflict."""
    first = min((ask for ask in asks if _is_taken(ask)), key=_ended, default=None)
    bodies = {ask.body for ask in asks}
    for ask in asks:
        if ask.result is Result.INFO or _is_taken(ask):
            continue
        if first is not None and ask.body != first.body and ask.at >= _ended(first) and ask.code not in _REFUSED:
            yield Finding("I15", key, f"another body under a known key was answered with {ask.code}")
        if ask.code == 422 and len(bodies) == 1 and first is not None:
            yield Finding("I15", key, "the same request was answered with 202 and with 422")
        if first is not None and ask.body == first.body and ask.at >= _ended(first) and ask.code not in _BUSY | {422}:
            yield Finding("I15", key, f"a repeat of a request that was taken was answered with {ask.code}")
    for ask in asks:
        if ask.is_replay and not any(other is not ask and other.at <= _ended(ask) for other in asks):
            yield Finding("I15", key, "the first request of a key was answered as a replay")


def _of_batches(key: str, asks: list[Ask]) -> Said:
    """A batch is compared as a whole; its items keep their ids."""
    if any(ask.mode == "strict" for ask in asks):
        yield from _one_body(key, asks)
        first = {ask.batch: ask for ask in asks if ask.item == 0}
        yield from _refusals(key, list(first.values()))
    else:
        yield from _one_mail_each(key, asks)
    items: dict[tuple[str, int], list[Ask]] = defaultdict(list)
    for ask in asks:
        items[ask.body, ask.item].append(ask)
    for same in items.values():
        yield from _one_id(key, same)


def _one_mail_each(key: str, asks: list[Ask]) -> Said:
    """Permissive, in any order and number of items: no recipient gets more mails under one key than one request named."""
    most: dict[int, int] = defaultdict(int)
    ids: dict[int, set[str]] = defaultdict(set)
    for batch in {ask.batch for ask in asks}:
        named: dict[int, int] = defaultdict(int)
        for ask in asks:
            if ask.batch == batch and (who := _recipient(ask)) is not None:
                named[who] += 1
                if _is_taken(ask) and ask.id is not None:
                    ids[who].add(ask.id)
        for who, count in named.items():
            most[who] = max(most[who], count)
    for who, all_ in ids.items():
        if len(all_) > most[who]:
            yield Finding("I15", key, f"{len(all_)} emails to one recipient under one key; a request named {most[who]}")
    if any(_recipient(ask) is None for ask in asks):
        yield Unjudged("I15", key, "an item was refused that does not say whom it was for")


def _is_taken(ask: Ask) -> bool:
    return ask.result is Result.OK and ask.code == 202


def _ended(ask: Ask) -> float:
    return ask.ended_at or ask.at
