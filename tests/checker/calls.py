"""I2: no unmarked duplicate, and no call without the right to it. I3: no more often than the caller chose."""

from dev.sendgrid.ledger import Call
from mailstream.domain.attempt import Outcome, ReleasedRecord
from mailstream.domain.request import ControlKind, OnAmbiguous
from tests.checker.claims import Attempt, Life
from tests.checker.said import STAMP_SECONDS, Finding, Said, Unjudged
from tests.support.history import History

_REFUSALS = frozenset({"400", "404", "405", "406", "413", "415", "451"})
_ACCOUNT = frozenset({"401", "403"})
#: What may be recorded of each answer, beside UNKNOWN: the rest proves nothing, so nothing may be said.
_PROVES = {
    Outcome.NOT_ACCEPTED: frozenset({"429"}),
    Outcome.REFUSED: _REFUSALS | _ACCOUNT,
    Outcome.ACCOUNT_FAULT: _ACCOUNT,
}


def i2_no_unmarked_duplicate(history: History) -> Said:
    """Each call is the one call of a claim that won, made while it was open; a mark stands only behind a doubt."""
    for id_, calls in history.accepted.items():
        marked = sum(bool(call.nonce and _is_marked(history, call.nonce)) for call in calls)
        if len(calls) - 1 - marked > 0:
            yield Finding("I2", id_, f"{len(calls)} accepted calls, {marked} of them marked")
    for id_, calls in history.real_calls.items():
        life = history.lives.get(id_, Life())
        for call in calls:
            yield from _one_call(id_, life, call)
    for nonce, calls in history.calls_of.items():
        if len(calls) > 1:
            yield Finding("I2", calls[0].id or nonce, f"one claim (attempt {calls[0].attempt}) made {len(calls)} calls")
    for id_, life in history.lives.items():
        for attempt in life.won:
            yield from _one_word(history, id_, attempt)
        for said in life.without_say:
            what = f"attempt {said.attempt} has the word of a worker that did not win it"
            yield Finding("I2", id_, what)
        if (first := next((a for a in life.calls if a.claim.possible_duplicate), None)) and not _had_doubt(life, first):
            yield Finding("I2", id_, f"attempt {first.claim.attempt} is marked, and nothing was in doubt")


def _is_marked(history: History, nonce: str) -> bool:
    return nonce in history.claims and history.claims[nonce].possible_duplicate


def _one_call(id_: str, life: Life, call: Call) -> Said:
    attempt = life.by_nonce(call.nonce)
    if attempt is None or not attempt.is_call or call.attempt != attempt.claim.attempt:
        yield Finding("I2", id_, f"was called (attempt {call.attempt}) without a claim that won")
    elif call.at < attempt.at - STAMP_SECONDS:
        yield Finding("I2", id_, f"was called {attempt.at - call.at:.3f} s before its claim was in the log")
    elif isinstance(attempt.word, ReleasedRecord):
        yield Finding("I2", id_, f"was called, and attempt {call.attempt} is recorded as never called")
    elif attempt.word_record is not None and call.at > attempt.word_record.at + STAMP_SECONDS:
        yield Finding("I2", id_, f"was called {call.at - attempt.word_record.at:.3f} s after its outcome was recorded")


def _one_word(history: History, id_: str, attempt: Attempt) -> Said:
    """No proof may be recorded that the answer does not give: what is not known is never guessed."""
    if attempt.result not in _PROVES:
        return
    answers = {call.answer for call in history.calls_of.get(attempt.claim.nonce, ())}
    if wrong := sorted(answers - _PROVES[attempt.result]):
        yield Finding("I2", id_, f"the answer was {', '.join(wrong)}, which does not prove {attempt.result}")


def _had_doubt(life: Life, marked: Attempt) -> bool:
    return any(a is not marked and a.claim.attempt < marked.claim.attempt and _was_open(a, marked) for a in life.calls)


def _was_open(attempt: Attempt, later: Attempt) -> bool:
    said = attempt.word_record
    return attempt.is_open or (
        said is not None and (said.partition, said.offset) > (later.record.partition, later.record.offset)
    )


def i3_as_often_as_the_caller_chose(history: History) -> Said:
    """``hold``: accepted once at most, and never claimed again behind a doubt; ``resend``: once more."""
    for id_, calls in history.accepted.items():
        most = 2 if OnAmbiguous.RESEND in _chosen(history, id_, calls[-1].at) else 1
        if len(calls) > most:
            yield Finding("I3", id_, f"{len(calls)} accepted calls; the caller chose at most {most}")
    for id_, life in history.lives.items():
        resend = next((attempt for attempt in life.calls if attempt.is_behind_doubt), None)
        if resend is None:
            continue
        if id_ not in history.requests:
            yield Unjudged("I3", id_, "its request is not in the log, so what its caller chose is unknown")
        elif OnAmbiguous.RESEND not in _chosen(history, id_, resend.at):
            yield Finding("I3", id_, f"attempt {resend.claim.attempt} is a resend that was not chosen")


def _chosen(history: History, id_: str, before: float) -> set[OnAmbiguous]:
    """What the caller chose, and what an operator had ordered by then."""
    asked = history.requests.get(id_, ())
    chosen = {next((request.on_ambiguous for _, request in asked), None) or history.run.on_ambiguous}
    ordered = any(
        word.kind is ControlKind.RESOLVE and word.to == "RESEND" and record.at <= before + STAMP_SECONDS
        for record, word in history.controls.get(id_, ())
    )
    return chosen | ({OnAmbiguous.RESEND} if ordered else set())
