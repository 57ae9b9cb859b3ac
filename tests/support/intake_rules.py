"""What stands around the claim, as rules: what a record asks for, what is known of an email, and what may be acked.

Beside the protocol stand those that look simpler: each is the protocol with one rule switched off.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import NamedTuple

from tests.support import claim_rules
from tests.support.claim_rules import Log, Story


class Asks(StrEnum):
    """What a record of ``email.requested`` asks for."""

    REQUEST = "request"
    BATCH = "batch"  #: strict, with an item of our email; in the batch's own partition
    ITEM = "item"  #: of a batch that was unfolded
    CANCEL = "cancel"
    RESCHEDULE = "reschedule"
    __hash__ = str.__hash__  # Enum's own is slow


CONTROLS = frozenset({Asks.CANCEL, Asks.RESCHEDULE})


class Entry(NamedTuple):
    """One record of ``email.requested``."""

    asks: Asks
    body: int = 0  #: of a mail: 1, or 2 for another one under the same key


REQUEST, BATCH, OTHER_BATCH = Entry(Asks.REQUEST, 1), Entry(Asks.BATCH, 1), Entry(Asks.BATCH, 2)
OTHER_REQUEST = Entry(Asks.REQUEST, 2)  #: of a producer that writes without a look
CANCEL, RESCHEDULE = Entry(Asks.CANCEL), Entry(Asks.RESCHEDULE)


class Known(NamedTuple):
    """A status: what a worker knows of the email beside ``email.attempts``, or what ``email.status`` holds."""

    mails: tuple[str, ...] = ()  #: ids; more than one would be two mails for one key
    body: int = 0
    has_evidence: bool = False  #: an event of the provider says that it took the mail
    refused: tuple[int, ...] = ()  #: offsets of controls that were decided without a claim

    def plus(self, other: "Known") -> "Known":
        """Merged by rank: nothing is taken back."""
        if other in (self, NOTHING):
            return self
        return Known(
            tuple(sorted({*self.mails, *other.mails})),
            self.body or other.body,
            self.has_evidence or other.has_evidence,
            tuple(sorted({*self.refused, *other.refused})),
        )


NOTHING = Known()


@dataclass(frozen=True)
class Rules:
    """The protocol, or one that looks simpler. Everything that is not the default breaks something."""

    name: str
    resends: bool = False  #: on_ambiguous=resend: no weakness, a choice of the caller
    acks_memory: str = ""  #: mails, events or controls: what memory knows already is acked at once
    bars_controls: bool = True  #: False: claims begin before the unread rest of email.requested is read
    bars_events: bool = True  #: False: a hold ends before the unread rest of email.events is read
    bars_kept: bool = True  #: False: only a partition that was not believed one's own is scanned when it is assigned
    holds_ask: bool = False  #: True: a hold ends only when the events are read up to the end that they have just then
    takes_from_batch: bool = True  #: False: a control for an item that is not unfolded names an unknown id
    remembers_batch: bool = True  #: False: a key is compared only with emails that are known by themselves
    in_order: bool = True  #: False: of two controls that wait, any is decided first
    batch_waits: bool = True  #: False: a batch is acked when its items are sent to the log, not when they are in it
    has_stable_ids: bool = True  #: False: an item that is unfolded again has another id
    #: True: even the claim of a paused former owner that began before the assignment should come too late. No log
    #: without fencing can promise that; the claim decides then, and the cancel is refused.
    binds_former: bool = False

    @property
    def of_claims(self) -> claim_rules.Rules:
        """The rules of the claim itself: always the protocol's."""
        return _RESEND if self.resends else _HOLD


_HOLD = claim_rules.Rules("the protocol")
_RESEND = claim_rules.Rules("the protocol, with the marked resend", resends=True)


class Reader(NamedTuple):
    """How logs are read: by the rules of this module, or by those of the product."""

    #: What a request or item at this offset means beside the body that is known (0: none): "new", "known", "refused".
    take: Callable[[Entry, int, int], str]
    #: What the attempts and the status prove together.
    story: Callable[[Log, Known, claim_rules.Rules], Story]
    #: The newest control that counts as decided, by the status and by the claims (their controls); -1: none.
    decided: Callable[[Known, tuple[int, ...]], int]
    #: Where a commit may go: from the committed offset on, which records are finished.
    head: Callable[[int, tuple[bool, ...]], int]


def _take(entry: Entry, offset: int, known: int) -> str:
    if not known:
        return "new"
    return "known" if known == entry.body else "refused"


@cache
def _story(log: Log, known: Known, rules: claim_rules.Rules) -> Story:
    story = claim_rules.sketch(log, rules)
    if not known.has_evidence:
        return story
    return story._replace(shows="SENT", may_call=False, may_cancel=False, may_give_up=False, to_hold=frozenset())


def _decided(known: Known, claimed: tuple[int, ...]) -> int:
    return max((*known.refused, *claimed), default=-1)


def _head(committed: int, finished: tuple[bool, ...]) -> int:
    return committed + (*finished, False).index(False)


SKETCH = Reader(_take, _story, _decided, _head)
