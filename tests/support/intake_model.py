"""What stands around the claim as a model, and every interleaving of it: acks, assignments, batches, controls, events.

One email. Its requests, controls and events are in one partition, its strict batch in another one. Clients append what
the scope's script says, each record at any time and only what follows from a 202 before. A worker reads in log order,
holds what it knows in memory until ``email.status`` takes it (which may be never), and commits finished heads. It may
rest at any step, die, get and lose the partition, and believe that it still owns what another worker has: only its
commits are fenced then. When a partition comes back that it believed its own, the acks are forgotten and reading goes
back to what is committed, but memory stays. Timers may fire at any time. The batch may be unfolded at any time, any
number of times, until it is acked. Of claims only what matters here: one is appended and read back in one step, and a
call that got no answer stays without; what may happen in between is explored by the claim model.
"""

from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.support.claim_rules import Kind, Record, Story
from tests.support.intake_rules import CONTROLS, Asks, Entry
from tests.support.intake_state import AWAY, EVENTS, HOME, IDLE, Own, Scope, State, Worker, broken, has_item_of
from tests.support.search import search

Change = dict[str, Any]
Step = tuple[str, Worker, Change]


def steps(state: State, scope: Scope) -> Iterator[tuple[str, State]]:
    """Everything that can happen next."""
    yield from _steps_of_clients(state, scope)
    yield from _steps_with_batches(state, scope)
    if scope.events and state.accepted and not state.events:
        yield "event arrives", state._replace(events=1)
    for i, worker in enumerate(state.workers):
        if i and worker == state.workers[i - 1]:
            continue  # what its twin does leads to the same states
        others = state.workers[:i] + state.workers[i + 1 :]
        for step, after, changes in _steps_of(state, worker, scope):
            yield step, state._replace(workers=tuple(sorted((*others, after))), **changes)
        for step, now, after, changes in _assignments(state, others, worker, scope):
            yield step, state._replace(workers=tuple(sorted((*now, after))), **changes)


def _steps_of_clients(state: State, scope: Scope) -> Iterator[tuple[str, State]]:
    if state.asked == len(scope.script):
        return
    entry, asked = scope.script[state.asked], state.asked + 1
    if entry.asks is not Asks.BATCH:
        yield entry.asks, state._replace(home=(*state.home, entry), asked=asked)
        return
    bodies = {state.durable.body, *(known.body for known in state.home)}
    if scope.rules.remembers_batch:
        bodies |= {known.body for known in state.away}
    if bodies - {0, entry.body}:
        yield "422", state._replace(asked=asked)
        return
    is_other = any(known.body not in (0, entry.body) for known in state.away)
    wrong = "two bodies of one key were both answered 202" if is_other else ""
    yield entry.asks, state._replace(away=(*state.away, entry), asked=asked, wrong=wrong)


def _assignments(
    state: State, others: tuple[Worker, ...], worker: Worker, scope: Scope
) -> Iterator[tuple[str, tuple[Worker, ...], Worker, Change]]:
    """Each partition may be given to any worker, also to the one that has it, at any time."""
    ends = len(state.home), state.events
    ahead = not state.attempts and any(entry.asks is Asks.CANCEL for entry in state.home), state.events > 0
    former = tuple(o._replace(home=Own.FORMER) if o.home is Own.YES else o for o in others)
    if scope.rules.binds_former:
        former = tuple(o._replace(ahead=ahead) if o.home else o for o in former)
    if worker.home is Own.NO:
        gained = worker._replace(memory=state.durable, bar=ends)
    else:  # another owner may have been here meanwhile
        gained = worker._replace(memory=worker.memory.plus(state.durable), done=())
        gained = gained._replace(bar=ends) if scope.rules.bars_kept else gained
    after = _read_on(gained._replace(home=Own.YES, ahead=ahead), *state.committed[:AWAY])
    if after != worker or former != others:
        yield "assigned, it had it" if worker.home else "assigned", former, after, {}


def _read_on(worker: Worker, requests: int, events: int) -> Worker:
    bar = (0 if worker.bar[HOME] <= requests else worker.bar[HOME], 0 if worker.bar[EVENTS] <= events else 1)
    return worker._replace(read=(requests, events), bar=bar)


def _steps_of(state: State, worker: Worker, scope: Scope) -> Iterator[Step]:
    if worker != IDLE:
        yield "crash", IDLE, {}
    if worker.home is Own.FORMER:
        yield "revoked", IDLE._replace(won=worker.won), {}
    yield from _steps_with_a_call(state, worker)
    if not worker.home:
        return
    if (durable := state.durable.plus(worker.memory)) != state.durable:
        yield "status durable", worker, {"durable": durable}
    yield from _reads(state, worker, scope)
    for offset in worker.line[:1] if scope.rules.in_order else worker.line:
        yield from _decisions(state, worker, offset, scope)
    if worker.home is Own.YES:
        for log in (HOME, EVENTS):
            yield from _commits(state, worker, log, scope)
    if worker.memory.mails and worker.memory.mails[0] in state.durable.mails and not worker.line:
        yield from _claims(state, worker, scope)


def _commits(state: State, worker: Worker, log: int, scope: Scope) -> Iterator[Step]:
    first = state.committed[log]
    finished = tuple(scope.is_finished(state, worker, log, offset) for offset in range(first, worker.read[log]))
    if (head := scope.read.head(first, finished)) > first:
        yield "commit", worker, _committed(state, log, head)


def _committed(state: State, log: int, head: int) -> Change:
    return {"committed": (*state.committed[:log], head, *state.committed[log + 1 :])}


def _steps_with_batches(state: State, scope: Scope) -> Iterator[tuple[str, State]]:
    """The worker that owns the batch, or did, may unfold it at any time, again and again: it remembers nothing."""
    for offset in range(state.committed[AWAY], len(state.away)):
        if appended := _unfolded(state, offset, scope):
            yield "unfold", state._replace(**appended)
    first = state.committed[AWAY]
    if first < len(state.away) and (has_item_of(state, first) or not scope.rules.batch_waits):
        yield "commit batch", state._replace(**_committed(state, AWAY, first + 1))


def _unfolded(state: State, offset: int, scope: Scope) -> Change:
    item = Entry(Asks.ITEM, state.away[offset].body)
    return {"home": (*state.home, item)} if state.home.count(item) < scope.items else {}


def _reads(state: State, worker: Worker, scope: Scope) -> Iterator[Step]:
    """The next request and the next event, in log order."""
    (offset, event), memory = worker.read, worker.memory
    if event < state.events:
        after = _read_on(worker._replace(memory=memory._replace(has_evidence=True)), offset, event + 1)
        yield "read event", _acked(after, EVENTS, event, scope, "events") if memory.has_evidence else after, {}
    if offset == len(state.home):
        return
    entry, after = state.home[offset], _read_on(worker, offset + 1, event)
    if entry.asks in CONTROLS:
        yield _read_control(state, after, offset, scope)
        return
    mail, step = scope.mail_at(offset), f"read {entry.asks}"
    is_same = not memory.mails or mail in memory.mails
    match scope.read.take(entry, offset, memory.body if is_same else 0):
        case "new":
            mails = tuple(sorted({*memory.mails, mail}))
            yield step, after._replace(memory=memory._replace(mails=mails, body=entry.body)), {}
        case "known":
            yield step, _acked(after, HOME, offset, scope, "mails"), {}
        case _:
            yield f"{step}, dead letter", after, _letter(state, offset)


def _read_control(state: State, after: Worker, offset: int, scope: Scope) -> Step:
    step, memory, changes = f"read {state.home[offset].asks}", after.memory, {}
    if not memory.mails:
        if not scope.rules.takes_from_batch:
            return f"{step}, unknown", after, _letter(state, offset)
        step, changes = f"{step}, take its item from the batch", _unfolded(state, 0, scope)
        after = after._replace(memory=memory._replace(mails=(scope.mail_at(0),), body=state.away[0].body))
    if offset <= scope.read.decided(memory, state.claimed):
        return step, _acked(after, HOME, offset, scope, "controls"), changes
    return step, after._replace(line=tuple(sorted({*after.line, offset}))), changes


def _acked(worker: Worker, log: int, offset: int, scope: Scope, what: str) -> Worker:
    """What memory knows already waits for its status to be durable, unless the rules say that memory is enough."""
    if what not in scope.rules.acks_memory:
        return worker
    return worker._replace(done=tuple(sorted({*worker.done, (log, offset)})))


def _letter(state: State, offset: int) -> Change:
    return {"letters": tuple(sorted({*state.letters, offset}))}


def _decisions(state: State, worker: Worker, offset: int, scope: Scope) -> Iterator[Step]:
    """Decide a control: by a claim, or without one in the status. A step that is not taken is a try that failed."""
    after = worker._replace(line=tuple(o for o in worker.line if o != offset))
    memory, what = worker.memory, state.home[offset].asks
    if offset <= scope.read.decided(memory, state.claimed):
        yield f"{what} counts as decided", after, {}
    elif memory.mails[0] not in state.durable.mails:
        return  # the email is born first
    elif what is Asks.CANCEL and scope.story(state, memory).may_cancel:
        claim = _claim(state, Kind.CANCEL, scope.story(state, memory))
        yield "claim to cancel", after, claim | {"claimed": tuple(sorted({*state.claimed, offset}))}
    else:
        refused = tuple(sorted({*memory.refused, offset}))
        yield f"decide {what} by the status", after._replace(memory=memory._replace(refused=refused)), {}


def _claim(state: State, kind: Kind, story: Story) -> Change:
    is_marked = kind is Kind.CALL and story.is_marked
    return {"attempts": (*state.attempts, Record(kind, story.attempt, len(state.attempts), is_marked))}


def _said(state: State, kind: Kind, nonce: int) -> Change:
    return {"attempts": (*state.attempts, Record(kind, state.attempts[nonce].attempt, nonce))}


def _claims(state: State, worker: Worker, scope: Scope) -> Iterator[Step]:
    """What dispatch and timers may begin."""
    story = scope.story(state, worker.memory)
    if len(state.attempts) >= scope.room:
        return
    for nonce in story.to_hold:
        yield "hold", worker, _said(state, Kind.HELD, nonce)
    is_hold = story.may_give_up or story.is_marked
    if scope.is_barred(state, worker) or (is_hold and not scope.may_end_hold(state, worker)):
        return
    if story.may_call and worker.won < 0:
        claim = _claim(state, Kind.CALL, story) | {"wrong": _wrong_call(state, worker, story)}
        yield "claim to resend" if story.is_marked else "claim", worker._replace(won=len(state.attempts)), claim
    if story.may_give_up:
        wrong = "UNCONFIRMED, and evidence stood in the log at the assignment" if worker.ahead[1] else ""
        yield "give up", worker, _claim(state, Kind.GIVE_UP, story) | {"wrong": wrong}


def _wrong_call(state: State, worker: Worker, story: Story) -> str:
    if story.is_marked and worker.ahead[1]:
        return "sent again, and evidence stood in the log at the assignment"
    if any(record.kind is Kind.CALL for record in state.attempts):
        return ""  # a claim was first: the cancel was, or will be, refused
    if any(state.home[offset].asks is Asks.CANCEL for offset in state.letters):
        return "claimed for a call, and a cancel was dropped as unknown"
    return "claimed for a call, and a cancel stood in the log at the assignment" if worker.ahead[0] else ""


def _steps_with_a_call(state: State, worker: Worker) -> Iterator[Step]:
    """A claim may always be answered, also when the log is full. What a late answer does is the claim model's."""
    if worker.won >= 0:
        free, accepted = worker._replace(won=-1), {"accepted": state.accepted + 1}
        yield "call, taken", free, _said(state, Kind.ACCEPTED, worker.won) | accepted
        yield "call, taken, no answer", free, accepted
        yield "release", free, _said(state, Kind.RELEASED, worker.won)


@dataclass(frozen=True)
class Finding:
    """What an exploration found."""

    scope: Scope
    states: int
    breaks: str | None = None  #: the promise that can be broken
    path: tuple[str, ...] = ()  #: the shortest way there
    shown: frozenset[str] = frozenset()  #: every status that came up where nothing was left to read
    stuck: int = 0  #: states from which the logs can not be read to their ends any more
    steps: frozenset[str] = field(default=frozenset(), repr=False)  #: every step that was taken

    def __str__(self) -> str:
        verdict = f"BROKEN in {len(self.path)}: {' > '.join(self.path)}: {self.breaks}" if self.breaks else "holds"
        asked = ", ".join(entry.asks for entry in self.scope.script)
        scope = f"{self.scope.workers} workers, claims ≤ {self.scope.room}, {asked}"
        return f"{self.scope.rules.name:40} {scope:50} {self.states:>9,} states  {verdict}"


def explore(scope: Scope) -> Finding:
    """Go through all states, nearest first, until a promise breaks or nothing is new."""
    before: dict[State, list[State]] = {}
    taken: set[str] = set()

    def noted(state: State) -> Iterator[tuple[str, State]]:
        for step, after in steps(state, scope):
            before.setdefault(after, []).append(state)
            taken.add(step)
            yield step, after

    found = search(State((IDLE,) * scope.workers), noted, lambda state: broken(state, scope))
    if found.breaks:
        return Finding(scope, len(found.reached), found.breaks, found.path)
    ends = [state for state in found.reached if is_all_read(state, scope)]
    shown = frozenset(scope.story(state, state.durable).shows for state in ends)
    stuck = len(found.reached) - len(_leading_to(ends, before))
    return Finding(scope, len(found.reached), shown=shown, stuck=stuck, steps=frozenset(taken))


def is_all_read(state: State, scope: Scope) -> bool:
    """Whether everything was asked, and all of it is acked."""
    ends = (len(state.home), state.events, len(state.away))
    return state.asked == len(scope.script) and state.committed == ends


def _leading_to(ends: Collection[State], before: dict[State, list[State]]) -> set[State]:
    """All others are stuck: a bar never falls there, or an offset is never acked."""
    good, queue = set(ends), deque(ends)
    while queue:
        for state in before.get(queue.popleft(), ()):
            if state not in good:
                good.add(state)
                queue.append(state)
    return good
