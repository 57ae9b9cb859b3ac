"""I14: words about an email (cancel, reschedule, an operator's resolve) are obeyed, or refused visibly."""

from collections.abc import Iterator
from math import inf

from mailstream.domain.attempt import Instead
from mailstream.domain.request import Control, ControlKind
from mailstream.domain.status import Status
from tests.checker.blows import hitting
from tests.checker.claims import Attempt, Life
from tests.checker.said import STAMP_SECONDS, Finding, Said, Unjudged
from tests.support.history import History
from tests.support.history_logs import Record, Result, Word

#: So long after a cancel stands in the log a worker may still claim the email, as it reads that log and others.
READ_SECONDS = 5.0
#: So long before the end of the history a word may stay undecided.
DECIDED_SECONDS = 30.0
_CLAIMED = {
    ControlKind.CANCEL: frozenset({Instead.CANCELLED}),
    ControlKind.RESCHEDULE: frozenset({Instead.RESCHEDULED}),
    ControlKind.RESOLVE: frozenset({Instead.SENT, Instead.UNCONFIRMED}),
}


def i14_words_are_obeyed(history: History) -> Said:
    """What the answer said came true, and every word in the log was decided."""
    for word in history.words:
        yield from _of_answer(history, word)
    for id_, controls in history.controls.items():
        life = history.lives.get(id_, Life())
        for record, control in controls:
            if (record.partition, record.offset) not in history.dead_letters:
                yield from _of_record(history, id_, life, record, control)
            if control.kind is ControlKind.CANCEL:
                yield from _claimed_behind(history, id_, life, record)


def _of_answer(history: History, word: Word) -> Said:
    if word.result is Result.INFO:
        yield Unjudged("I14", word.id, "no answer came to a word")
        return
    controls = [r for r, c in history.controls.get(word.id, ()) if c.kind is word.kind]
    if word.kind is ControlKind.RESOLVE and word.result is Result.OK and not controls:
        yield Finding("I14", word.id, "an operator's word was taken by Kafka, and no record of it is in the log")
    if word.code not in (200, 202):
        return
    shown = history.final.get(word.id)
    is_cancel = word.kind is ControlKind.CANCEL
    if not controls and not (is_cancel and shown is not None and shown.status is Status.CANCELLED):
        yield Finding("I14", word.id, f"{word.kind} was answered with {word.code}, and no record of it is in the log")
    if word.code == 202:
        return  # in the log, and judged there
    if is_cancel:
        if taken := len(history.accepted.get(word.id, ())):
            yield Finding("I14", word.id, f"its cancel was answered with 200, and {taken} calls of it were accepted")
        elif later := [c for c in history.real_calls.get(word.id, ()) if c.at > word.ended_at]:
            yield Finding("I14", word.id, f"its cancel was answered with 200, and {len(later)} calls followed")
        if shown is None or shown.status is not Status.CANCELLED:
            what = f"its cancel was answered with 200, and it stands as {shown.status if shown else 'nothing'}"
            yield Finding("I14", word.id, what)
    if word.kind is ControlKind.RESCHEDULE and word.send_at is not None:
        yield from _of_reschedule(history, word, word.send_at)


def _of_reschedule(history: History, word: Word, send_at: float) -> Said:
    changes = history.lives.get(word.id, Life()).ended(Instead.RESCHEDULED)
    own = [change for change in changes if abs(_time_of(change) - send_at) < 0.001]
    if not own:
        yield Finding("I14", word.id, "its reschedule was answered with 200, and no claim gives it that time")
        return
    later = min((a.at for a in changes if a.claim.attempt > own[-1].claim.attempt), default=inf)
    calls = history.real_calls.get(word.id, ())
    early = [call for call in calls if own[-1].at < call.at < min(send_at - STAMP_SECONDS, later)]
    if early:
        what = f"it was called {send_at - early[0].at:.3f} s before the time that a 200 had given it"
        yield Finding("I14", word.id, what)


def _time_of(change: Attempt) -> float:
    return change.claim.not_before.timestamp() if change.claim.not_before is not None else -inf


def _of_record(history: History, id_: str, life: Life, record: Record, control: Control) -> Said:
    """Each control record ends as a winning claim that names it, or as a fact on the timeline that does."""
    won = [a for a in life.won if a.claim.instead in _CLAIMED[control.kind] and _names(a, record)]
    if control.to == "RESEND" and any(a.is_behind_doubt and a.at >= record.at for a in life.calls):
        # it came; how the email ended after it was not the operator's word, unless a claim says so
        won = [a for a in won if a.claim.control == record.offset]
        if not won:
            return
    shown = history.final.get(id_)
    facts = [] if shown is None else [fact for fact in shown.timeline if fact.control == record.offset]
    refusals = [fact for fact in facts if fact.what is not None]
    if won:
        yield from _carried_out(id_, control, won[0])
    elif shown is None:
        yield Unjudged("I14", id_, "a word about an email that has no status")
    elif refusals:
        yield from _ordered(history, id_, life, control, refusals[0].what or "")
    elif shown.timeline_dropped:
        yield Unjudged("I14", id_, "its timeline is shortened, and may have shown a refusal")
    elif shown.final or shown.control >= record.offset:
        what = f"a {control.kind} stands at {record.place[1:]}, and was neither carried out nor refused"
        yield Finding("I14", id_, f"{what}: it is {shown.status}")
    elif history.ended_at - record.at > DECIDED_SECONDS:
        yield Finding("I14", id_, f"a {control.kind} was not decided in {history.ended_at - record.at:.0f} s")
    else:
        yield Unjudged("I14", id_, "a word was not decided when the history ended")


def _names(attempt: Attempt, record: Record) -> bool:
    """Whether the claim is made for this control record; one that names none is made for any before it."""
    return attempt.claim.control == record.offset or (attempt.claim.control is None and attempt.at >= record.at)


def _carried_out(id_: str, control: Control, won: Attempt) -> Said:
    if control.kind is ControlKind.RESOLVE and won.claim.instead != control.to:
        yield Finding("I14", id_, f"an operator said {control.to}, and {won.claim.instead} was claimed for it")
    if control.kind is ControlKind.RESCHEDULE and won.claim.not_before != control.send_at:
        yield Finding("I14", id_, "it was given another time than its reschedule asked for")


def _ordered(history: History, id_: str, life: Life, control: Control, what: str) -> Said:
    """A resend that was ordered comes, unless evidence or another ending did."""
    if what.endswith("_refused") or control.to != "RESEND":
        return
    is_over = history.final[id_].status is Status.UNCONFIRMED and not any(a.is_behind_doubt for a in life.calls)
    request = next((request for _, request in history.requests.get(id_, ())), None)
    may_end = request is not None and (request.expires_at is not None or request.cap is not None)
    if is_over and not may_end:
        yield Finding("I14", id_, "an operator ordered a resend, and it ended UNCONFIRMED without one")


def _claimed_behind(history: History, id_: str, life: Life, record: Record) -> Iterator[Finding]:
    """A cancel that stood in the log for long before a claim was there to be read first."""
    for attempt in life.calls:
        late = attempt.at - record.at
        if late <= READ_SECONDS or any(hitting(history.blows, attempt.claim.worker, record.at, attempt.at)):
            continue
        if _was_refused(history, id_, record, attempt):
            continue
        yield Finding("I14", id_, f"it was claimed for a call {late:.1f} s after a cancel of it stood in the log")


def _was_refused(history: History, id_: str, record: Record, attempt: Attempt) -> bool:
    """Whether the refusal was shown before the claim: an email in doubt may be sent again all the same."""
    return any(
        published.at <= attempt.at
        for published, status in history.statuses.get(id_, ())
        if any(fact.control == record.offset and fact.what is not None for fact in status.timeline)
    )
