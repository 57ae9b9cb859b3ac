"""Which claims won, and what their writers said of them: the rule of the log, written a second time for the checker.

The product has its own (``streams/core``), and a checker that used it would believe its mistakes. The rule: of each attempt
the first claim wins, if at its place in the log the attempt before it is closed by its own winner with proof (not called,
or not accepted), or if it is the one marked resend behind an attempt in doubt. An ending is a claim too: behind it
nothing wins any more, and behind a doubt only UNCONFIRMED and an operator's SENT do.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from mailstream.domain.attempt import (
    AttemptRecord,
    ClaimRecord,
    HeldRecord,
    Instead,
    Outcome,
    OutcomeRecord,
    ReleasedRecord,
)
from tests.support.history_logs import Record

#: Proof that the provider has not taken the mail of this attempt.
_NOT_TAKEN = frozenset({Outcome.NOT_ACCEPTED, Outcome.ACCOUNT_FAULT, Outcome.REFUSED})
_ENDS = frozenset({Outcome.ACCEPTED, Outcome.REFUSED})
_OF_DOUBT = frozenset({Instead.UNCONFIRMED, Instead.SENT})


@dataclass(slots=True)
class Attempt:
    """One claim, and the words about it that count."""

    record: Record
    claim: ClaimRecord
    has_won: bool = False
    word: OutcomeRecord | ReleasedRecord | None = None  #: the winner's first, by the worker that claimed
    word_record: Record | None = None
    held: Record | None = None  #: the first record that says HELD
    is_behind_doubt: bool = False  #: an attempt before it was in doubt when it was claimed

    @property
    def at(self) -> float:
        """When its claim stood in the log."""
        return self.record.at

    @property
    def is_call(self) -> bool:
        """Whether it gives the right to call."""
        return self.has_won and self.claim.instead is None

    @property
    def result(self) -> Outcome | None:
        """What its winner says came of the call."""
        return self.word.result if isinstance(self.word, OutcomeRecord) else None

    @property
    def is_open(self) -> bool:
        """Whether it may be under way, or have been, with no proof of what came of it."""
        return self.is_call and (self.word is None or self.result is Outcome.UNKNOWN)

    @property
    def doubted_at(self) -> float | None:
        """When the log said first that its outcome is unknown."""
        unknown = self.word_record.at if self.word_record and self.result is Outcome.UNKNOWN else None
        return min((at for at in (unknown, self.held.at if self.held else None) if at is not None), default=None)


@dataclass(slots=True)
class Life:
    """All claims about one email, in log order."""

    attempts: list[Attempt] = field(default_factory=list)
    is_ended: bool = False
    without_say: list[OutcomeRecord | ReleasedRecord] = field(default_factory=list)  #: words that do not count
    _won: list[Attempt] = field(default_factory=list)
    _doubts: list[Attempt] = field(default_factory=list)
    _by_nonce: dict[str, Attempt] = field(default_factory=dict)

    @property
    def won(self) -> list[Attempt]:
        """The winners, first attempt first."""
        return self._won

    @property
    def calls(self) -> list[Attempt]:
        """The winners that may call."""
        return [attempt for attempt in self._won if attempt.claim.instead is None]

    def by_nonce(self, nonce: str | None) -> Attempt | None:
        """The claim with this mark."""
        return self._by_nonce.get(nonce or "")

    def ended(self, *ways: Instead) -> list[Attempt]:
        """Winning claims of these endings or changes."""
        return [attempt for attempt in self._won if attempt.claim.instead in ways]

    def take(self, record: Record, said: AttemptRecord) -> None:
        """Read the next record of the log."""
        if isinstance(said, ClaimRecord):
            self._claimed(record, said)
        elif isinstance(said, HeldRecord):
            attempt = self._by_nonce.get(said.nonce)
            if attempt is not None and attempt.has_won and attempt.held is None:
                attempt.held = record
        else:
            self._said(record, said)

    def _claimed(self, record: Record, claim: ClaimRecord) -> None:
        if claim.nonce in self._by_nonce:
            return  # an acknowledgement was lost, and the record appended again
        attempt = self._by_nonce[claim.nonce] = Attempt(record, claim)
        self.attempts.append(attempt)
        last = self._won[-1] if self._won else None
        if self.is_ended or claim.attempt != (last.claim.attempt if last else 0) + 1:
            return
        is_in_doubt = last is not None and last.is_open
        if is_in_doubt:
            may = claim.instead in _OF_DOUBT or (
                claim.instead is None and claim.possible_duplicate and not self._doubts
            )
        else:
            is_unmarked = claim.instead is None and not claim.possible_duplicate
            may = claim.instead not in _OF_DOUBT and not (self._doubts and is_unmarked)
        if not may:
            return
        if is_in_doubt:
            assert last is not None
            self._doubts.append(last)
        attempt.has_won, attempt.is_behind_doubt = True, bool(self._doubts)
        self._won.append(attempt)
        self.is_ended = claim.instead not in (None, Instead.RESCHEDULED)

    def _said(self, record: Record, said: OutcomeRecord | ReleasedRecord) -> None:
        attempt = self._by_nonce.get(said.nonce)
        if attempt is not None and attempt.is_call and attempt.word is not None and attempt.word.worker == said.worker:
            return  # said before
        if attempt is None and isinstance(said, ReleasedRecord):
            return  # its claim was given up, as the broker did not take it: it releases nothing
        if (
            attempt is None
            or not attempt.is_call
            or (said.attempt, said.worker) != (attempt.claim.attempt, attempt.claim.worker)
        ):
            self.without_say.append(said)  # only who claimed knows what it did
            return
        attempt.word, attempt.word_record = said, record
        result = said.result if isinstance(said, OutcomeRecord) else None
        if attempt in self._doubts:
            if result is None or result in _NOT_TAKEN:
                self._doubts.remove(attempt)
            self.is_ended |= result is Outcome.ACCEPTED
        else:
            self.is_ended |= result in _ENDS


def lives_of(records: Iterable[tuple[str, list[tuple[Record, AttemptRecord]]]]) -> dict[str, Life]:
    """Each email id to its life, from its records in log order."""
    lives: dict[str, Life] = {}
    for id_, all_ in records:
        life = lives[id_] = Life()
        for record, said in all_:
            life.take(record, said)
    return lives
