"""I13: every status has its cause in the log before it, and every ending has its cause in the world.

A status follows from a record that stood in the log when it was published. And an ending is true: EXPIRED needs a time that
had passed, CANCELLED a cancel, SUPPRESSED a suppression, a cap or a digest, FAILED refusals or retries that are used up,
HELD and UNCONFIRMED a call, or a fault of the worker that claimed.
"""

from collections.abc import Callable, Iterator
from math import inf

from mailstream.domain.attempt import ClaimRecord, Instead, Outcome, ReleasedRecord
from mailstream.domain.recipient import canonical
from mailstream.domain.request import ControlKind, EmailRequest
from mailstream.domain.status import LIVE, EmailStatus, Status
from mailstream.domain.suppression import key_of
from tests.checker.blows import hitting
from tests.checker.claims import Attempt, Life
from tests.checker.said import SOCKET_SECONDS, STAMP_SECONDS, Finding, Said, Unjudged
from tests.checker.shown import ACCEPTED
from tests.support.history import History

#: So long before the end of the history what the log says may not be shown yet.
SHOWN_SECONDS = 10.0
#: A worker ends a hold up to a second early, so that its clock is never behind.
HOLD_EARLY_SECONDS = 1.5
_EVENTS = {
    Status.DELIVERED: {"delivered"},
    Status.BOUNCED: {"bounce"},
    Status.BLOCKED: {"blocked", "bounce"},
    Status.DEFERRED: {"deferred"},
    Status.DROPPED: {"dropped"},
}
_RETRIED = frozenset({Outcome.NOT_ACCEPTED, Outcome.ACCOUNT_FAULT})


def i13_every_end_has_its_cause(history: History) -> Said:
    """Statuses behind their records; endings behind what they say happened."""
    for id_, published in history.statuses.items():
        life = history.lives.get(id_, Life())
        for record, status in published:
            if status.status in _EVENTS and not history.events:
                yield Unjudged("I13", id_, "what the provider told is not in this history")
                continue
            since = min(_explained(history, id_, life, status), default=inf)
            if since == inf:
                yield Finding("I13", id_, f"{status.status} (attempt {status.attempt}) follows from no record")
            elif since > record.at + STAMP_SECONDS:
                yield Finding("I13", id_, f"{status.status} was published {since - record.at:.3f} s before its record")
        yield from _lags(history, id_, life)
    for id_, life in history.lives.items():
        resend = next((attempt for attempt in life.calls if attempt.is_behind_doubt), None)
        if resend is not None and (why := _resent_too_soon(history, id_, resend)):
            yield Finding("I13", id_, f"it was claimed again, and {why}")
        for attempt in life.won:
            if attempt.claim.instead is not None and (why := _ENDINGS[attempt.claim.instead](history, id_, attempt)):
                yield Finding("I13", id_, f"{attempt.claim.instead}, and {why}")
            if attempt.claim.instead is Instead.FAILED and history.run.retries is None:
                yield Unjudged("I13", id_, "how many retries an email has is not known")
            if attempt.result is Outcome.REFUSED and attempt.claim.nonce not in history.calls_of:
                yield Finding(
                    "I13", id_, f"attempt {attempt.claim.attempt} is recorded as refused, and was never called"
                )
            if attempt.doubted_at is not None and not _may_be_in_doubt(history, attempt):
                what = f"attempt {attempt.claim.attempt} is in doubt, was not called, and no fault hit its worker"
                yield Finding("I13", id_, what)


def _explained(history: History, id_: str, life: Life, status: EmailStatus) -> Iterator[float]:
    """When the records stood in the log from which the status may follow."""
    own = [attempt for attempt in life.won if attempt.claim.attempt == status.attempt]
    said = [(a, a.word_record.at) for a in life.won if a.word_record is not None]
    match status.status:
        case Status.QUEUED if status.attempt == 0:
            yield from (record.at for record, _ in history.requests.get(id_, ()))
        case Status.QUEUED:
            yield from (at for a, at in said if a in own and isinstance(a.word, ReleasedRecord))
            yield from (a.at for a in own if a.claim.instead is Instead.RESCHEDULED)
        case Status.PROCESSING:
            yield from (a.at for a in own if a.is_call)
        case Status.HELD:
            yield from (a.doubted_at for a in own if a.doubted_at is not None)
        case Status.RETRYING:
            yield from (at for a, at in said if a in own and a.result in _RETRIED)
        case Status.REJECTED:
            places = [(record.partition, record.offset) for record, _ in history.requests.get(id_, ())]
            yield from (letter.at for place in places for letter, _ in history.dead_letters.get(place, ()))
            yield from _letters_of_unreadable(history, status)
        case Status.UNCONFIRMED:
            yield from (a.at for a in own if a.claim.instead is Instead.UNCONFIRMED or _is_end_behind_doubt(a))
            yield from (at for a, at in said if a.result is Outcome.REFUSED)
        case Status.FAILED:
            yield from (a.at for a in own if a.claim.instead is Instead.FAILED)
            yield from (at for a, at in said if a.result is Outcome.REFUSED or a.result in _RETRIED)
        case Status.CANCELLED | Status.EXPIRED | Status.SUPPRESSED:
            yield from (a.at for a in own if a.claim.instead == status.status.value)
        case _:
            yield from _proofs(history, id_, life, status.status)


def _lags(history: History, id_: str, life: Life) -> Said:
    """What the log said long before the history ends is shown at its end."""
    stands, until = history.final[id_].status, history.ended_at - SHOWN_SECONDS
    said = [a for a in life.won if a.word_record is not None and a.word_record.at < until]
    told = [record for record, _ in history.events.get(id_, ()) if record.at < until]
    ended = [a for a in life.won if a.at < until and a.claim.instead not in (None, Instead.RESCHEDULED)]
    if (told or any(a.result is Outcome.ACCEPTED for a in said)) and stands not in ACCEPTED:
        yield Finding("I13", id_, f"stands as {stands}, and the log says that it was accepted")
    elif told and stands is Status.SENT and (late := _unshown(history, id_, until)):
        yield Finding("I13", id_, f"stands as SENT, and the provider told {late}")
    elif (ended or any(a.result is Outcome.REFUSED for a in said)) and stands in LIVE:
        yield Finding("I13", id_, f"stands as {stands}, and the log says that it has ended")
    elif (  # a claim that came behind an event loses, which this log alone does not show
        stands in LIVE and any(a.at < until and a.claim.attempt > history.final[id_].attempt for a in life.won)
    ):
        yield Finding("I13", id_, f"stands as {stands}, and the log has a later attempt")


def _unshown(history: History, id_: str, until: float) -> str | None:
    """An event about the recipient that would be a later status."""
    known = {name for names in _EVENTS.values() for name in names}
    told = ((r, event) for r, event in history.events[id_] if event.is_recipient and event.event in known)
    return next((event.event for record, event in told if record.at < until), None)


def _is_end_behind_doubt(attempt: Attempt) -> bool:
    return attempt.is_behind_doubt and attempt.claim.instead not in (None, Instead.RESCHEDULED, Instead.SENT)


def _letters_of_unreadable(history: History, status: EmailStatus) -> Iterator[float]:
    if status.request is not None:
        place = status.request.partition, status.request.offset
        yield from (letter.at for letter, _ in history.dead_letters.get(place, ()))


def _proofs(history: History, id_: str, life: Life, status: Status) -> Iterator[float]:
    """That the provider took the mail, and for what came later: that it said so."""
    events = history.events.get(id_, ())
    if status in _EVENTS:
        yield from (record.at for record, event in events if event.event in _EVENTS[status])
        return
    assert status in ACCEPTED
    yield from (record.at for record, _ in events)
    yield from (a.at for a in life.ended(Instead.SENT))
    yield from (a.word_record.at for a in life.won if a.word_record is not None and a.result is Outcome.ACCEPTED)


def _may_be_in_doubt(history: History, attempt: Attempt) -> bool:
    """A call reached the provider, or something kept the worker from saying that none did."""
    at = attempt.doubted_at
    assert at is not None
    if any(call.at <= at + STAMP_SECONDS for call in history.calls_of.get(attempt.claim.nonce, ())):
        return True
    if any(hitting(history.blows, attempt.claim.worker, attempt.at - SOCKET_SECONDS, at)):
        return True
    # a call that the provider closed before it had read whose it is
    return attempt.result is Outcome.UNKNOWN and any(
        call.id is None and not call.is_sandbox and call.answer == "reset" and attempt.at <= call.at <= at
        for call in history.calls
    )


# -- endings: why each is untrue, or None ---------------------------------------------------------------------


def _request(history: History, id_: str) -> EmailRequest | None:
    return next((request for _, request in history.requests.get(id_, ())), None)


def _not_expired(history: History, id_: str, attempt: Attempt) -> str | None:
    request = _request(history, id_)
    if request is None or request.expires_at is None:
        return "it had no expires_at"
    early = request.expires_at.timestamp() - attempt.at
    return f"its expires_at was {early:.3f} s away" if early > STAMP_SECONDS else None


def _asked_by(kind: ControlKind, *ends: str) -> Callable[[History, str, Attempt], str | None]:
    """The check of an ending that needs a control record before it."""

    def missing(history: History, id_: str, attempt: Attempt) -> str | None:
        asked = [
            record
            for record, word in history.controls.get(id_, ())
            if word.kind is kind and (not ends or word.to in ends) and _gives(word.send_at, attempt.claim)
        ]
        named = attempt.claim.control
        if any(r.at <= attempt.at + STAMP_SECONDS and named in (None, r.offset) for r in asked):
            return None
        return f"no {kind.value} of it stood in the log before"

    return missing


def _gives(send_at: object, claim: ClaimRecord) -> bool:
    return claim.instead is not Instead.RESCHEDULED or send_at == claim.not_before


def _not_suppressed(history: History, id_: str, attempt: Attempt) -> str | None:
    request = _request(history, id_)
    if request is None:
        return "its request is not in the log"
    if _is_on_list(history, request, attempt.at) or _is_in_digest(history, id_, request, attempt):
        return None
    if request.cap is not None:
        since = attempt.at - request.cap.seconds - 1
        others = sum(
            other.cap is not None
            and (other.cap.key, other.tenant, other.to) == (request.cap.key, request.tenant, request.to)
            for other_id, life in history.lives.items()
            if other_id != id_
            and any(since <= a.at <= attempt.at for a in life.calls)
            and (other := _request(history, other_id)) is not None
        )
        return None if others >= request.cap.count else f"only {others} of {request.cap.count} mails were under its cap"
    return "no suppression, cap or digest says so"


def _is_on_list(history: History, request: EmailRequest, at: float) -> bool:
    keys = {key_of(request.tenant, canonical(a.email)) for a in (request.to, *request.cc, *request.bcc)}
    return any(
        record.key in keys and record.value is not None and record.at <= at + STAMP_SECONDS
        for record in history.in_log_order("email.suppressions")
    )


def _is_in_digest(history: History, id_: str, request: EmailRequest, attempt: Attempt) -> bool:
    """Another email of the same digest was claimed for a call, and tells this one's event."""
    into = attempt.claim.into
    other = _request(history, into) if into is not None and into != id_ else None
    if other is None or request.digest is None or other.digest is None:
        return False
    is_same = (other.digest.key, other.tenant, other.to) == (request.digest.key, request.tenant, request.to)
    return is_same and any(a.at <= attempt.at for a in history.lives.get(into or "", Life()).calls)


def _not_failed(history: History, id_: str, attempt: Attempt) -> str | None:
    request, life = _request(history, id_), history.lives[id_]
    if request is None:
        return None  # its body is gone
    if (request.template or request.digest) and (attempt.claim.reason or "").startswith(
        ("template_failed", "body_gone")
    ):
        return None  # what made it a mail is not part of this history
    paid = [a for a in life.calls if a.result in _RETRIED and a.claim.attempt < attempt.claim.attempt]
    if not paid:
        return "nothing refused it, and its request is in the log"
    used = sum(getattr(a.word, "counts", False) for a in paid)  # a 429 is not paid from the retries
    if history.run.retries is not None and used <= history.run.retries:
        return f"only {used} of {history.run.retries + 1} attempts were used"
    if not any(a.claim.nonce in history.calls_of or any(_hit(history, a)) for a in paid):
        return "none of its attempts reached the provider, and no fault says why"
    return None


def _hit(history: History, attempt: Attempt) -> Iterator[object]:
    until = attempt.word_record.at if attempt.word_record is not None else inf
    return hitting(history.blows, attempt.claim.worker, attempt.at - SOCKET_SECONDS, until)


def _not_unconfirmed(history: History, id_: str, attempt: Attempt) -> str | None:
    """It was in doubt for the whole of its time, or an operator said so."""
    if _asked_by(ControlKind.RESOLVE, "UNCONFIRMED")(history, id_, attempt) is None:
        return None
    return _not_held(history, id_, attempt)


def _not_held(history: History, id_: str, attempt: Attempt) -> str | None:
    """Behind a doubt something may follow only after its time."""
    calls = [a for a in history.lives[id_].calls if a.claim.attempt < attempt.claim.attempt]
    doubt = calls[-1].doubted_at if calls else None
    if doubt is None or doubt > attempt.at + STAMP_SECONDS:
        return "it was not shown as in doubt before"
    least = (history.run.hold_timeout_seconds or 0.0) - HOLD_EARLY_SECONDS
    return f"it was in doubt for only {attempt.at - doubt:.1f} s" if attempt.at - doubt < least else None


def _resent_too_soon(history: History, id_: str, resend: Attempt) -> str | None:
    if _asked_by(ControlKind.RESOLVE, "RESEND")(history, id_, resend) is None:
        return None
    return _not_held(history, id_, resend)


_ENDINGS: dict[Instead, Callable[[History, str, Attempt], str | None]] = {
    Instead.EXPIRED: _not_expired,
    Instead.CANCELLED: _asked_by(ControlKind.CANCEL),
    Instead.RESCHEDULED: _asked_by(ControlKind.RESCHEDULE),
    Instead.SENT: _asked_by(ControlKind.RESOLVE, "SENT"),
    Instead.SUPPRESSED: _not_suppressed,
    Instead.FAILED: _not_failed,
    Instead.UNCONFIRMED: _not_unconfirmed,
}
