"""Why a record of ``email.requested`` may be a dead letter: it was planted, or it is one that cannot be taken."""

from msgspec import structs

from mailstream.clock import moment
from mailstream.domain import codec, email_id
from mailstream.domain.dead_letter import Reason
from mailstream.domain.errors import BadAddress, BadEmailId
from mailstream.domain.recipient import canonical, recipient_hash
from mailstream.domain.request import Batch, Control, ControlKind, EmailRequest
from mailstream.domain.topics import MAX_REQUEST_BYTES
from mailstream.domain.validation import Violation, validate
from tests.checker.said import STAMP_SECONDS, Finding, Said
from tests.support.history import History
from tests.support.history_logs import Record

_UNREADABLE = frozenset({Reason.NOT_JSON, Reason.BAD_SHAPE, Reason.UNKNOWN_KIND, Reason.BAD_VALUE, Reason.BAD_ID})
DEEPEST = 32  #: levels of ``data`` that a request may have
LONGEST_NAME = 255


def unjustified(history: History) -> Said:
    """Dead letters that were not planted, of records that could have been taken."""
    planted = {(poison.partition, poison.offset) for poison in history.planted}
    records = {(r.partition, r.offset): r for r in history.in_log_order("email.requested")}
    for place, letters in sorted(history.dead_letters.items()):
        if place in planted:
            continue
        record = records.get(place)
        if record is None:
            yield Finding("I12", str(place), "is a dead letter of a record that is not in email.requested")
            continue
        for letter, reason in letters:
            if why_not := _why_not(history, record, letter, reason):
                yield Finding("I12", _about(history, record), f"is a dead letter, {reason}, and {why_not}")


def wrongly_lost(history: History) -> set[tuple[int, int]]:
    """Places of dead letters that are no excuse for a missing status."""
    records = {(r.partition, r.offset): r for r in history.in_log_order("email.requested")}
    planted = {(poison.partition, poison.offset) for poison in history.planted}
    return {
        place
        for place, letters in history.dead_letters.items()
        if place not in planted
        and (
            place not in records or any(_why_not(history, records[place], letter, reason) for letter, reason in letters)
        )
    }


def second_bodies(history: History) -> set[tuple[str, int, int]]:
    """Places of strict batches whose id stood before with another content: they are refused as a whole."""
    first: dict[str, list[EmailRequest]] = {}
    found = set()
    for record in history.in_log_order("email.requested"):
        if (
            isinstance(record.value, Batch) and record.value.id and record.value.items
        ):  # one without only names the batch
            content = [_content(item) for item in record.value.items]
            if first.setdefault(record.value.id, content) != content:
                found.add(record.place)
    return found


def _about(history: History, record: Record) -> str:
    ids = [id_ for id_, _ in history.asked_in(record) if id_]
    return ids[0] if len(ids) == 1 else getattr(record.value, "id", None) or str(record.place[1:])


def _why_not(history: History, record: Record, letter: Record, reason: str) -> str | None:
    """Why the reason does not hold for this record; None: it does."""
    if reason not in {each.value for each in Reason}:
        return "this is no known reason"
    if isinstance(record.value, bytes):
        return None if Reason(reason) in _UNREADABLE | {Reason.TOO_LARGE} else "the record cannot be read at all"
    if isinstance(record.value, Control):
        return _of_control(history, record, record.value, Reason(reason))
    if reason == Reason.ID_CONFLICT and record.place in second_bodies(history):
        return None
    if isinstance(record.value, Batch | EmailRequest):
        asked = history.asked_in(record)
        if any(_is_bad(history, record, letter, id_, request, Reason(reason)) for id_, request in asked):
            return None
        promised = any(id_ in history.promised for id_, _ in asked)
        return "the request is valid" + (" and had its 202" if promised else "")
    return "the record is a null value"


def _of_control(history: History, record: Record, control: Control, reason: Reason) -> str | None:
    match reason:
        case Reason.UNKNOWN_ID:
            is_asked = any(_is_before(earlier, record) for earlier, _ in history.requests.get(control.id, ()))
            return "the email had been asked for" if is_asked else None
        case Reason.ID_CONFLICT:
            tenants = {request.tenant for _, request in history.requests.get(control.id, ())}
            return None if control.tenant is not None and control.tenant not in tenants else "the tenant is right"
        case Reason.BAD_VALUE:
            is_whole = control.kind is not ControlKind.RESCHEDULE or (control.send_at and control.send_at.tzinfo)
            is_known = control.kind is not ControlKind.RESOLVE or control.to in ("SENT", "UNCONFIRMED", "RESEND")
            return "the control is whole" if is_whole and is_known else None
        case Reason.BAD_ID:
            return "its id is an email's" if email_id.is_email_id(control.id) else None
    return "this is no reason for a control"


def _is_bad(
    history: History, record: Record, letter: Record, id_: str | None, request: EmailRequest, reason: Reason
) -> bool:
    """Whether the reason is true of this request."""
    match reason:
        case Reason.BAD_ADDRESS:
            return not _is_address(request) or any(m.pointer.startswith("/to") for m in _mistakes(request, letter))
        case Reason.BAD_ID:
            return not _is_own_id(request)
        case Reason.BAD_VALUE:
            is_long = max(len(request.tenant), len(request.fingerprint or "")) > LONGEST_NAME
            return (
                is_long
                or _is_deep(request.data)
                or _is_deep(request.provider_options)
                or bool(_mistakes(request, letter))
            )
        case Reason.ID_CONFLICT:
            return any(
                _is_before(earlier, record) and _content(other) != _content(request)
                for earlier, other in history.requests.get(id_ or "", ())
            )
        case Reason.TOO_LARGE:
            return len(codec.encode(request)) > MAX_REQUEST_BYTES - 1024
        case Reason.SENDER_NOT_ALLOWED:
            return request.from_ is not None
        case Reason.EVENT_TOO_OLD:
            asked_at = request.requested_at
            born = min(record.at, asked_at.timestamp() if asked_at is not None else record.at)
            return letter.at - born > history.run.most_age_seconds
        case Reason.TEMPLATE_FAILED:
            return bool(request.template or request.digest)
    return False


def _mistakes(request: EmailRequest, letter: Record) -> list[Violation]:
    return validate(request, now=moment(letter.at))


def _is_before(earlier: Record, record: Record) -> bool:
    if earlier.partition == record.partition:
        return earlier.offset < record.offset
    return earlier.at < record.at - STAMP_SECONDS


def _content(request: EmailRequest) -> EmailRequest:
    """What was asked for, without what differs from one asking to the next."""
    return structs.replace(request, id=None, requested_at=None, fingerprint=None, idempotency_key=None, redrive_of=None)


def _is_address(request: EmailRequest) -> bool:
    try:
        canonical(request.to.email)
    except BadAddress:
        return False
    return True


def _is_own_id(request: EmailRequest) -> bool:
    if request.id is None or not _is_address(request):
        return request.id is None
    try:
        return email_id.hash_in(request.id) == recipient_hash(canonical(request.to.email))
    except BadEmailId:
        return False


def _is_deep(value: object, levels: int = DEEPEST) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deep(each, levels - 1) for each in inner)
