"""The claim protocol as rules about a log: what a prefix of it proves, and what may be begun by it.

Beside the protocol stand the simpler ones that tempt: each is the protocol with one rule switched off.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import NamedTuple


class Kind(StrEnum):
    """What a record of the log says. The first three are claims of an attempt."""

    CALL = "claim"
    CANCEL = "claim to cancel"  #: stands for every ending that promises "not sent"
    GIVE_UP = "claim to end unconfirmed"  #: stands for the operator's word too
    RELEASED = "released"
    NOT_ACCEPTED = "not accepted"
    REFUSED = "refused for good"
    ACCEPTED = "accepted"
    UNKNOWN = "unknown"  #: the caller's own word that its answer was lost
    HELD = "held"
    __hash__ = str.__hash__  # Enum's own is slow


CLAIMS = frozenset({Kind.CALL, Kind.CANCEL, Kind.GIVE_UP})


class Record(NamedTuple):
    """One record. A claim's nonce is its own offset: unique, and the same in equal states."""

    kind: Kind
    attempt: int
    nonce: int
    is_marked: bool = False  #: claim: possible_duplicate


Log = tuple[Record, ...]


@dataclass(frozen=True)
class Rules:
    """The protocol, or one that looks simpler. Everything that is not the default breaks something."""

    name: str
    resends: bool = False  #: on_ambiguous=resend: no weakness, a choice of the caller
    claims: bool = True  #: False: look at the log, then call
    reads_back: bool = True  #: False: write the intent, then call
    only_winner_releases: bool = True  #: False: a RELEASED of anyone frees the attempt
    only_proof_frees: bool = True  #: False: a lost answer counts as "not accepted"
    cancel_is_claimed: bool = True  #: False: cancel what looks unsent
    doubt_bars_cancelled: bool = True  #: False: a cancel behind a doubt is shown as CANCELLED
    endings: bool = True  #: False: nobody cancels or gives up
    giving_up_is_claimed: bool = True  #: False: UNCONFIRMED by a timer, outside the log


class Story(NamedTuple):
    """What a prefix of the log proves, and what may be begun by it."""

    attempt: int = 1  #: the one that comes next
    winners: frozenset[int] = frozenset()  #: nonces of the claims that won
    shows: str = "QUEUED"  #: the status that a reader of this prefix shows
    may_call: bool = True
    is_marked: bool = False  #: a call would be a possible duplicate
    may_cancel: bool = True
    may_give_up: bool = False
    to_hold: frozenset[int] = frozenset()  #: nonces of calls whose outcome may never be known


#: How a log is read: by the rules of this module, or by those of the product.
Reader = Callable[[Log, Rules], Story]


class _Facts(NamedTuple):
    winners: tuple[int, ...] = ()  #: nonce of the winning claim of each attempt
    doubts: frozenset[int] = frozenset()  #: won calls without proof that they were not accepted
    held: frozenset[int] = frozenset()
    has_accepted: bool = False
    has_ended: bool = False
    shows: str = "QUEUED"


@cache
def sketch(log: Log, rules: Rules) -> Story:
    """Read the log by the rules, in few lines."""
    facts = _fold(log, rules)
    newest = facts.winners[-1] if facts.winners else None
    is_live = not facts.has_ended and not facts.has_accepted
    is_held = bool(facts.doubts) and facts.doubts <= facts.held
    may_resend = rules.resends and is_held and len(facts.doubts) == 1
    return Story(
        attempt=len(facts.winners) + 1,
        winners=frozenset(facts.winners),
        shows=facts.shows,
        may_call=is_live and (not facts.doubts or may_resend or (rules.resends and newest not in facts.doubts)),
        is_marked=bool(facts.doubts),
        may_cancel=is_live and (newest not in facts.doubts or not rules.doubt_bars_cancelled),
        may_give_up=is_live and is_held,
        to_hold=facts.doubts - facts.held if is_live else frozenset(),
    )


@cache
def _fold(log: Log, rules: Rules) -> _Facts:
    """The order decides: the first claim of an attempt wins it, and only its nonce may speak of it."""
    if not log:
        return _Facts()
    before, record = _fold(log[:-1], rules), log[-1]
    if record.kind in CLAIMS:
        return _claimed(before, record, rules)
    if record.kind is Kind.RELEASED and not rules.only_winner_releases:
        freed = frozenset(nonce for nonce in before.doubts if log[nonce].attempt == record.attempt)
        return before._replace(doubts=before.doubts - freed, shows="QUEUED" if freed else before.shows)
    if record.nonce not in before.winners:
        return before
    is_newest, doubts = record.nonce == before.winners[-1], before.doubts - {record.nonce}
    match record.kind:
        case Kind.ACCEPTED:
            return before._replace(has_accepted=True, shows="SENT")
        case Kind.HELD | Kind.UNKNOWN:
            shows = "HELD" if is_newest and before.shows == "PROCESSING" else before.shows
            return before._replace(held=before.held | {record.nonce}, shows=shows)
        case Kind.RELEASED if is_newest:
            return before._replace(doubts=doubts, shows="QUEUED")
        case Kind.RELEASED:  # an attempt that another one followed: only a fact
            return before
        case Kind.REFUSED if is_newest:
            shows = before.shows if before.has_accepted else _ending("FAILED", doubts)
            return before._replace(doubts=doubts, has_ended=True, shows=shows)
        case _:
            if before.has_ended:
                shows = "FAILED" if before.shows == "UNCONFIRMED" and not doubts else before.shows
            else:
                shows = "RETRYING" if is_newest and not before.has_accepted else before.shows
            return before._replace(doubts=doubts, shows=shows)


def _claimed(before: _Facts, claim: Record, rules: Rules) -> _Facts:
    is_open = bool(before.winners) and before.winners[-1] in before.doubts
    if claim.attempt != len(before.winners) + 1 or before.has_ended or before.has_accepted:
        return before
    winners = (*before.winners, claim.nonce)
    if claim.kind is Kind.CALL:
        if is_open and not (rules.resends and claim.is_marked and len(before.doubts) == 1):
            return before
        return before._replace(winners=winners, doubts=before.doubts | {claim.nonce}, shows="PROCESSING")
    if claim.kind is Kind.GIVE_UP:
        return before._replace(winners=winners, has_ended=True, shows="UNCONFIRMED")
    if is_open and rules.doubt_bars_cancelled:
        return before
    doubts = before.doubts if rules.doubt_bars_cancelled else frozenset()
    return before._replace(winners=winners, has_ended=True, shows=_ending("CANCELLED", doubts))


def _ending(shows: str, doubts: frozenset[int]) -> str:
    """Behind a doubt nothing may say "not sent"."""
    return "UNCONFIRMED" if doubts else shows
