"""Logs of one email as workers that keep the rules may write them, drawn by Hypothesis.

A worker may decide by any prefix of the log, however old, die at any step, say its word late, and say it twice.
"""

from dataclasses import dataclass, field

from hypothesis import strategies as st

from mailstream.domain.attempt import AttemptRecord, ClaimRecord, Instead, Outcome, OutcomeRecord, ReleasedRecord
from mailstream.domain.status import EmailStatus, Status
from streams.core import fold
from streams.core.claims import Verdict, may_claim
from tests.support.builders import a_claim, a_hold, a_release, a_status, an_outcome

#: Words of a winner that prove: the provider has not got the email from this attempt.
PROOFS = frozenset({Outcome.NOT_ACCEPTED, Outcome.REFUSED, Outcome.ACCOUNT_FAULT})
ENDINGS = (Instead.CANCELLED, Instead.EXPIRED, Instead.SUPPRESSED, Instead.FAILED, Instead.RESCHEDULED)


def folded(records: list[AttemptRecord], start: EmailStatus | None = None) -> EmailStatus:
    """The status after these records."""
    status = start or a_status()
    for record in records:
        status = fold.attempted(status, record)[1]
    return status


@dataclass
class Life:
    """The log, and what came true outside it."""

    log: list[AttemptRecord] = field(default_factory=list)
    statuses: list[EmailStatus] = field(default_factory=lambda: [a_status()])  #: before, and after each record
    verdicts: list[Verdict] = field(default_factory=list)
    accepted: set[str] = field(default_factory=set)  #: nonces of the calls that the provider took
    silent: set[str] = field(default_factory=set)  #: nonces of winners that have not said their word

    def append(self, record: AttemptRecord) -> None:
        """Write one record; the winner of a call can say its word from now on."""
        verdict, status = fold.attempted(self.statuses[-1], record)
        self.log.append(record)
        self.verdicts.append(verdict)
        self.statuses.append(status)
        if _is_call(record) and verdict is Verdict.WON:
            self.silent.add(record.nonce)

    def in_doubt(self) -> list[set[str]]:
        """For each status: nonces of the won calls that nothing proves not accepted."""
        found: list[set[str]] = [set()]
        for record, verdict in zip(self.log, self.verdicts, strict=True):
            won = set(found[-1])
            if _is_call(record) and verdict is Verdict.WON:
                won.add(record.nonce)
            elif isinstance(record, ReleasedRecord) or (isinstance(record, OutcomeRecord) and record.result in PROOFS):
                won.discard(record.nonce)
            found.append(won)
        return found


def _is_call(record: AttemptRecord) -> bool:
    return isinstance(record, ClaimRecord) and record.instead is None


@st.composite
def lives(draw: st.DrawFn, longest: int = 12) -> Life:
    """A life of Ada's email under several workers."""
    life = Life()
    for serial in range(draw(st.integers(1, longest))):
        seen = life.statuses[-1 - draw(st.integers(0, min(3, len(life.log))))]
        step = draw(st.sampled_from(["claim", "claim", "word", "word", "end", "hold", "hold", "give up", "repeat"]))
        at = float(serial + 1)
        attempt, nonce = seen.attempt + 1, f"{serial}"
        is_held = seen.status is Status.HELD
        if step == "claim" and may_claim(seen, possible_duplicate=is_held):
            is_marked = is_held or seen.possible_duplicate
            life.append(a_claim(attempt, nonce, at_seconds=at, possible_duplicate=is_marked))
        elif step == "end" and may_claim(seen, instead=(ending := draw(st.sampled_from(ENDINGS)))):
            life.append(a_claim(attempt, nonce, at_seconds=at, instead=ending, reason="asked for"))
        elif step == "give up" and is_held and may_claim(seen, instead=Instead.UNCONFIRMED):
            life.append(a_claim(attempt, nonce, at_seconds=at, instead=Instead.UNCONFIRMED))
        elif step == "hold" and seen.status is Status.PROCESSING:
            life.append(a_hold(seen.attempt, seen.nonce, at_seconds=at))
        elif step == "word" and life.silent:
            life.append(draw(_words(life, at)))
        elif step == "repeat" and (said := [record for record in life.log if not isinstance(record, ClaimRecord)]):
            life.append(draw(st.sampled_from(said)))
    return life


@st.composite
def _words(draw: st.DrawFn, life: Life, at: float) -> AttemptRecord:
    nonce = draw(st.sampled_from(sorted(life.silent)))
    attempt = next(record.attempt for record in life.log if record.nonce == nonce)
    life.silent.discard(nonce)
    result = draw(st.sampled_from([None, *Outcome]))
    if result is None:
        return a_release(attempt, nonce, at_seconds=at)
    if result is Outcome.ACCEPTED or (result is Outcome.UNKNOWN and draw(st.booleans())):
        life.accepted.add(nonce)
    return an_outcome(result, attempt, nonce, at_seconds=at, counts=True, message_id=f"m{nonce}")


@st.composite
def any_records(draw: st.DrawFn) -> AttemptRecord:
    """A record that nobody need have had a right to write."""
    attempt, nonce, at = draw(st.integers(1, 4)), draw(st.sampled_from("ab")), float(draw(st.integers(0, 9)))
    match draw(st.integers(0, 3)):
        case 0:
            instead = draw(st.none() | st.sampled_from(Instead))
            return a_claim(
                attempt,
                nonce,
                at_seconds=at,
                instead=instead,
                possible_duplicate=draw(st.booleans()),
                control=draw(st.none() | st.integers(0, 9)),
            )
        case 1:
            return an_outcome(draw(st.sampled_from(Outcome)), attempt, nonce, at_seconds=at, counts=draw(st.booleans()))
        case 2:
            return a_release(attempt, nonce, at_seconds=at)
    return a_hold(attempt, nonce, at_seconds=at)
