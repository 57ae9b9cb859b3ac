"""The logs of the intake model, read by the product itself: requests, batches, events, controls and acks."""

from dataclasses import replace
from functools import cache

from msgspec import structs

from mailstream.clock import moment
from mailstream.domain import codec
from mailstream.domain.attempt import ClaimRecord, Instead
from mailstream.domain.request import Batch
from mailstream.domain.status import Coordinates, EmailStatus
from streams.core import fold, intake
from streams.core.faults import Rules
from streams.core.intake import Known, New, ParsedRequest
from streams.core.offset_tracker import OffsetTracker
from streams.core.unfold import Unfold
from tests.support import claim_product, claim_rules
from tests.support.builders import ADA, HOME, NOW, PARTITIONS, a_record, a_request, an_event
from tests.support.claim_rules import Log, Story
from tests.support.intake_rules import Asks, Entry, Reader
from tests.support.intake_rules import Known as Status

AWAY = (HOME + 1) % PARTITIONS
_RULES = Rules(PARTITIONS, max_age_seconds=3_600.0, senders=frozenset())
_FAR = 1_000  #: offset of another record about the same email


@cache
def _asked(entry: Entry, offset: int) -> ParsedRequest:
    """A request, or the item of a batch as it is unfolded, as it comes to the worker of its partition."""
    request = a_request(subject=f"Body {entry.body}", idempotency_key="key")
    value, headers = codec.encode(request), dict[str, bytes]()
    if entry.asks is Asks.ITEM:
        batch = intake.read(
            a_record(Batch(items=(request,)), partition=AWAY, offset=entry.body), _RULES, NOW.timestamp()
        )
        assert isinstance(batch, Unfold)
        (item,) = batch.items
        assert item.partition == HOME
        value, headers = item.value, dict(batch.headers())
    ruling = intake.read(replace(a_record(value, offset=offset), headers=headers), _RULES, NOW.timestamp())
    assert isinstance(ruling, ParsedRequest)
    return ruling


@cache
def _take(entry: Entry, offset: int, known: int) -> str:
    status = _queued(_asked(Entry(Asks.REQUEST, known), _FAR)) if known else None
    match intake.decide(_asked(entry, offset), status):
        case New(_):
            return "new"
        case Known():
            return "known"
    return "refused"


def _queued(asked: ParsedRequest) -> EmailStatus:
    place = Coordinates(HOME, asked.received.offset)
    return structs.replace(claim_product.START, id=asked.id, fingerprint=asked.request.fingerprint, request=place)


@cache
def _story(log: Log, known: Status, rules: claim_rules.Rules) -> Story:
    status, winners = claim_product.read(log)
    if known.has_evidence:
        status = fold.happened(status, an_event("processed", id=status.id))
    return claim_product.story_of(status, winners, rules)


@cache
def _decided(known: Status, claimed: tuple[int, ...]) -> int:
    status = claim_product.START
    for offset in known.refused:
        status = fold.noted_control(status, control=offset, what="cancel_refused", why=None, by=ADA, at=moment(1))
    for offset in claimed:
        claim = ClaimRecord(
            id=status.id,
            attempt=status.attempt + 1,
            nonce="n",
            worker="model",
            at=moment(1),
            instead=Instead.CANCELLED,
            control=offset,
        )
        _, status = fold.attempted(status, claim)
    return status.control


@cache
def _head(committed: int, finished: tuple[bool, ...]) -> int:
    acks: OffsetTracker[str] = OffsetTracker()
    acks.begin("home", committed)
    slots = [acks.add("home", offset) for offset in range(committed, committed + len(finished))]
    for slot, is_finished in reversed(list(zip(slots, finished, strict=True))):
        if slot is not None and is_finished:
            acks.done(slot)
    return acks.committable()["home"]


PRODUCT = Reader(_take, _story, _decided, _head)
