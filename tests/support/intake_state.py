"""The states of the intake model: its logs, its workers, and the promises that each state must keep."""

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from tests.support.claim_rules import Log, Story
from tests.support.intake_rules import CONTROLS, NOTHING, SKETCH, Asks, Entry, Known, Reader, Rules

HOME, EVENTS, AWAY = 0, 1, 2  #: the logs that are acked: the email's requests, its events, the batch's partition


class Own(IntEnum):
    """Whether a worker owns a partition."""

    NO, FORMER, YES = range(3)  #: FORMER: it does not know yet that another worker has it
    __hash__ = int.__hash__  # Enum's own takes a third of the time


class Worker(NamedTuple):
    """One worker process."""

    home: Own = Own.NO
    memory: Known = NOTHING
    read: tuple[int, int] = (0, 0)  #: next offset of requests and of events
    line: tuple[int, ...] = ()  #: controls that it has read and not decided
    done: tuple[tuple[int, int], ...] = ()  #: log and offset of what it acked because memory knew it
    bar: tuple[int, int] = (0, 0)  #: ends of requests and events up to which it scanned ahead; 0: it has read so far
    ahead: tuple[bool, bool] = (False, False)  #: whether a cancel, and evidence, stood in the log at its assignment
    won: int = -1  #: nonce of the claim that it is about to call for


IDLE = Worker()


class State(NamedTuple):
    """All that is, and what has come true outside the logs."""

    workers: tuple[Worker, ...]
    home: tuple[Entry, ...] = ()
    away: tuple[Entry, ...] = ()
    events: int = 0
    attempts: Log = ()
    claimed: tuple[int, ...] = ()  #: controls that a claim of the log decided
    durable: Known = NOTHING  #: what email.status holds
    letters: tuple[int, ...] = ()  #: offsets of the home log that are dead letters
    committed: tuple[int, int, int] = (0, 0, 0)
    asked: int = 0  #: how much of the script is behind us
    accepted: int = 0  #: calls that the provider took
    wrong: str = ""  #: the promise that the last step broke


@dataclass(frozen=True)
class Scope:
    """How much is explored, by which rules, and how the logs are read."""

    rules: Rules
    script: tuple[Entry, ...]
    workers: int = 2
    room: int = 3  #: records that email.attempts may have
    items: int = 2  #: times that the item may be unfolded
    events: bool = True  #: whether the provider tells what it took
    read: Reader = SKETCH

    def story(self, state: State, known: Known) -> Story:
        """What a worker that knows this may begin."""
        return self.read.story(state.attempts, known, self.rules.of_claims)

    def mail_at(self, offset: int) -> str:
        """The id of the mail that a record of the home log asks for."""
        return "mail" if self.rules.has_stable_ids else f"mail of {offset}"

    def is_settled(self, state: State, offset: int) -> bool:
        """Whether the consequence of a record of the home log is durable."""
        entry = state.home[offset]
        if offset in state.letters:
            return True
        if entry.asks in CONTROLS:
            return offset <= self.read.decided(state.durable, state.claimed)
        return self.mail_at(offset) in state.durable.mails

    def is_finished(self, state: State, worker: Worker, log: int, offset: int) -> bool:
        """Whether a worker may ack a record that it has read."""
        if (log, offset) in worker.done:
            return True
        if log == EVENTS:
            return state.durable.has_evidence
        return offset not in worker.line and self.is_settled(state, offset)

    def is_barred(self, state: State, worker: Worker) -> bool:
        """Whether nothing may be begun for the email: it waits for what stood unread at the assignment."""
        unread = state.home[worker.read[HOME] : worker.bar[HOME]]
        if self.rules.bars_controls and any(entry.asks in CONTROLS for entry in unread):
            return True
        return self.rules.bars_events and worker.bar[EVENTS] > worker.read[EVENTS]

    def may_end_hold(self, state: State, worker: Worker) -> bool:
        """Whether a hold may end as far as unread events go."""
        return not self.rules.holds_ask or worker.read[EVENTS] == state.events


def has_item_of(state: State, offset: int) -> bool:
    """Whether the item of this batch has a record of its own."""
    return Entry(Asks.ITEM, state.away[offset].body) in state.home


def broken(state: State, scope: Scope) -> str | None:
    """The promise that this state breaks, if any."""
    if state.wrong:
        return state.wrong
    for offset in range(state.committed[HOME]):
        entry = state.home[offset]
        if offset in state.letters:
            continue
        if entry.asks in CONTROLS:
            if offset not in state.durable.refused and offset not in state.claimed:
                return "a control was acked and never decided"
        elif scope.mail_at(offset) not in state.durable.mails:
            return "a 202 is lost: acked, and no status is durable"
    if any(state.home[offset].body == state.durable.body != 0 for offset in state.letters):
        return "what asks for the same again became a dead letter"
    if any(not has_item_of(state, offset) for offset in range(state.committed[AWAY])):
        return "a 202 is lost: the batch was acked, and its item is in no log"
    if len(state.durable.mails) > 1:
        return "one key, two mails"
    if state.committed[EVENTS] and not state.durable.has_evidence:
        return "evidence is lost: acked, and no status is durable"
    if state.accepted > 1 + scope.rules.resends:
        return "more accepted calls than the caller chose"
    if state.accepted and state.claimed and scope.story(state, state.durable).shows == "CANCELLED":
        return "CANCELLED was shown, and the mail was called"
    return None
