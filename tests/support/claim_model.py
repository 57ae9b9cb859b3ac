"""The claim protocol as a model, and every interleaving of it.

One email, one log, a few workers. The log has an order and never forgets; all else is free. A worker may decide by any
prefix of the log, however old, and rest at any step for any time: so it may be slow, paused, cut off, replaced and come
back. It may die at any step, any number of times. A call, once it has left, lives its own life: the provider may take
it after its caller has given up or died, and the answer may never arrive. A claim may lack its acknowledgement and come
into the log later. Group membership, leases and clocks are not in the model: so nothing that is shown here rests on them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from tests.support.claim_rules import Kind, Log, Reader, Record, Rules, Story, sketch
from tests.support.search import search


class At(StrEnum):
    """Where a worker stands."""

    IDLE = "idle"
    READING_BACK = "reading back"  #: its claim is in the log; who won is not known to it yet
    WON = "won"  #: at the last gate
    CALLING = "calling"
    TOLD_ACCEPTED = "told accepted"
    TOLD_NOT = "told not accepted"
    DONE = "done"  #: has shown an end by itself (controls only)


class Worker(NamedTuple):
    """One worker process. Idle ones are all alike: none remembers what it has read."""

    at: At = At.IDLE
    nonce: int = 0  #: of the claim that it works on
    stray: int | None = None  #: nonce of a claim that it gave up; -n: the claim of attempt n is still under way


IDLE = Worker()


class State(NamedTuple):
    """All that is, and what has come true outside the log."""

    log: Log
    workers: tuple[Worker, ...]
    calls: tuple[int, ...] = ()  #: nonces of the calls that are under way to the provider
    accepted: int = 0  #: calls that the provider took
    unmarked: int = 0  #: of these, without possible_duplicate
    told_cancelled: bool = False  #: shown without a claim (controls only)
    told_over: int = 0  #: attempt from which on nothing may be called, shown without a claim (controls only)
    called_after_the_end: bool = False


NOT_SENT = frozenset({"CANCELLED", "FAILED"})


def broken(state: State, rules: Rules, read: Reader) -> str | None:
    """The promise that this state breaks, if any."""
    story = read(state.log, rules)
    if state.unmarked > 1:
        return "two accepted calls, neither marked"
    if state.accepted > 1 + rules.resends:
        return "more accepted calls than the caller chose"
    if state.accepted and (state.told_cancelled or story.shows in NOT_SENT):
        return "shown as not sent, and the provider accepted"
    if state.called_after_the_end:
        return "an end was shown, and a later attempt was called"
    if story.shows == "SENT" and not state.accepted:
        return "SENT was shown, and the provider accepted nothing"
    last = state.log[-1] if state.log else None
    if last and last.kind is Kind.ACCEPTED and last.nonce in story.winners and story.shows != "SENT":
        return "the caller recorded that the provider accepted, and SENT is not shown"
    return None


Change = dict[str, Any]
Step = tuple[str, Worker, Change]


@dataclass(frozen=True)
class Scope:
    """How much is explored, by which rules, and how the log is read."""

    rules: Rules
    workers: int
    room: int  #: records that the log may have
    strays: bool = False  #: claims may come late, without an acknowledgement
    read: Reader = sketch

    def story(self, log: Log) -> Story:
        """What the log proves."""
        return self.read(log, self.rules)

    def views(self, log: Log) -> frozenset[Story]:
        """What a worker may believe: the story of any prefix."""
        return frozenset(self.read(log[:seen], self.rules) for seen in range(len(log) + 1))


def steps(state: State, scope: Scope) -> Iterator[tuple[str, State]]:
    """Everything that can happen next."""
    for i, worker in enumerate(state.workers):
        if i and worker == state.workers[i - 1]:
            continue  # what its twin does leads to the same states
        others = state.workers[:i] + state.workers[i + 1 :]
        for step, after, changes in _steps_of(state, worker, scope):
            # equal but for the order of the workers: one state
            yield step, state._replace(workers=tuple(sorted((*others, after), key=_order)), **changes)
    yield from _steps_of_the_provider(state)


def _order(worker: Worker) -> tuple[str, int, int]:
    return worker.at, worker.nonce, -99 if worker.stray is None else worker.stray


def _steps_of(state: State, worker: Worker, scope: Scope) -> Iterator[Step]:
    log, has_room, rules = state.log, len(state.log) < scope.room, scope.rules
    if worker != IDLE and worker.at is not At.DONE:
        yield "crash", IDLE, {}
    if has_room and worker.stray is not None:
        yield from _steps_of_a_stray(log, worker, scope)
    free = worker._replace(at=At.IDLE, nonce=0)
    match worker.at:
        case At.IDLE:
            yield from _decisions(state, worker, scope)
        case At.READING_BACK:
            has_won = worker.nonce in scope.story(log[: worker.nonce + 1]).winners
            is_call = log[worker.nonce].kind is Kind.CALL
            yield ("won", worker._replace(at=At.WON), {}) if has_won and is_call else ("settled", free, {})
            if has_room and is_call:
                yield "stop, release unread", free, _appended(log, Kind.RELEASED, worker.nonce)
        case At.WON:
            yield _call(state, worker, log[worker.nonce].attempt)
            if has_room:
                yield "release", free, _appended(log, Kind.RELEASED, worker.nonce)
        case At.CALLING:
            yield "the answer is lost", free, {}
            if has_room and rules.claims:
                yield "record: unknown", free, _appended(log, Kind.UNKNOWN, worker.nonce)
            if has_room and not rules.only_proof_frees:
                yield "lost, so not accepted", free, _appended(log, Kind.NOT_ACCEPTED, worker.nonce)
        case At.TOLD_ACCEPTED if has_room and rules.claims:
            yield "record", free, _appended(log, Kind.ACCEPTED, worker.nonce)
        case At.TOLD_NOT if has_room and rules.claims:
            yield "record: try again", free, _appended(log, Kind.NOT_ACCEPTED, worker.nonce)
            yield "record: refused for good", free, _appended(log, Kind.REFUSED, worker.nonce)


def _appended(log: Log, kind: Kind, nonce: int) -> Change:
    return {"log": (*log, Record(kind, log[nonce].attempt, nonce))}


def _call(state: State, worker: Worker, attempt: int) -> Step:
    calling, calls = worker._replace(at=At.CALLING), tuple(sorted((*state.calls, worker.nonce)))
    if state.told_over and attempt >= state.told_over:
        return "call after the end was shown", calling, {"calls": calls, "called_after_the_end": True}
    return "call", calling, {"calls": calls}


def _decisions(state: State, worker: Worker, scope: Scope) -> Iterator[Step]:
    """What an idle worker may begin, by any prefix of the log."""
    log, nonce, rules = state.log, len(state.log), scope.rules
    has_room = nonce < scope.room and rules.claims

    def claim(kind: Kind, story: Story, at: At = At.READING_BACK) -> Step:
        record = Record(kind, story.attempt, nonce, is_marked=kind is Kind.CALL and story.is_marked)
        return kind, worker._replace(at=at, nonce=nonce), {"log": (*log, record)}

    for story in scope.views(log):
        if story.may_call and not rules.claims:
            yield _call(state, worker, story.attempt)
        if story.may_cancel and not rules.cancel_is_claimed and story == scope.story(log):
            yield "cancel what looks unsent", worker._replace(at=At.DONE), {"told_cancelled": True}
        if story.may_give_up and not rules.giving_up_is_claimed and not state.told_over:
            yield "show UNCONFIRMED", worker._replace(at=At.DONE), {"told_over": story.attempt}
        if not has_room:
            continue
        for doubt in story.to_hold:
            yield "hold", worker, _appended(log, Kind.HELD, doubt)
        if story.may_call:
            yield claim(Kind.CALL, story, At.READING_BACK if rules.reads_back else At.WON)
            if scope.strays and worker.stray is None and not story.is_marked:
                yield "claim, no acknowledgement", worker._replace(stray=-story.attempt), {}
        if story.may_cancel and rules.endings and rules.cancel_is_claimed:
            yield claim(Kind.CANCEL, story)
        if story.may_give_up and rules.endings and rules.giving_up_is_claimed:
            yield claim(Kind.GIVE_UP, story)


def _steps_of_a_stray(log: Log, worker: Worker, scope: Scope) -> Iterator[Step]:
    """A claim without acknowledgement is not used: should it come back as winner, its worker releases it."""
    assert worker.stray is not None
    if worker.stray < 0:
        landed = Record(Kind.CALL, -worker.stray, len(log))
        yield "a given-up claim arrives", worker._replace(stray=len(log)), {"log": (*log, landed)}
    elif worker.stray in scope.story(log).winners:
        release = _appended(log, Kind.RELEASED, worker.stray)
        yield "release the given-up claim", worker._replace(stray=None), release
    else:
        yield "forget the given-up claim", worker._replace(stray=None), {}


def _steps_of_the_provider(state: State) -> Iterator[tuple[str, State]]:
    for i, nonce in enumerate(state.calls):
        calls = state.calls[:i] + state.calls[i + 1 :]
        is_marked = nonce < len(state.log) and state.log[nonce].is_marked
        taken = {"calls": calls, "accepted": state.accepted + 1, "unmarked": state.unmarked + (not is_marked)}
        caller = next((n for n, w in enumerate(state.workers) if w.at is At.CALLING and w.nonce == nonce), None)
        for word, answer, changes in (
            ("accept", At.TOLD_ACCEPTED, taken),
            ("refuse", At.TOLD_NOT, {"calls": calls}),
        ):
            workers = state.workers
            if caller is not None:
                told = workers[caller]._replace(at=answer)
                workers = tuple(sorted((*workers[:caller], told, *workers[caller + 1 :]), key=_order))
            yield word, state._replace(workers=workers, **changes)


@dataclass(frozen=True)
class Finding:
    """What an exploration found."""

    scope: Scope
    states: int
    breaks: str | None = None  #: the promise that can be broken
    path: tuple[str, ...] = ()  #: the shortest way there
    shown: frozenset[str] = frozenset()  #: every status that came up
    logs: frozenset[Log] = frozenset()  #: every log that came up
    most_accepted: int = 0

    def __str__(self) -> str:
        verdict = f"BROKEN in {len(self.path)}: {' > '.join(self.path)}: {self.breaks}" if self.breaks else "holds"
        scope = f"{self.scope.workers} workers, log ≤ {self.scope.room}{', strays' if self.scope.strays else ''}"
        return f"{self.scope.rules.name:45} {scope:29} {self.states:>9,} states  {verdict}"


def explore(scope: Scope) -> Finding:
    """Go through all states, nearest first, until a promise breaks or nothing is new."""
    found = search(
        State((), (IDLE,) * scope.workers),
        lambda state: steps(state, scope),
        lambda state: broken(state, scope.rules, scope.read),
    )
    if found.breaks:
        return Finding(scope, len(found.reached), found.breaks, found.path)
    logs = frozenset(state.log for state in found.reached)
    shown = frozenset(scope.story(log).shows for log in logs)
    most = max(state.accepted for state in found.reached)
    return Finding(scope, len(found.reached), shown=shown, logs=logs, most_accepted=most)
