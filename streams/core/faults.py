"""What keeps a record of ``email.requested`` from being taken: a reason and a sentence, which repeats no value.

What goes into a status or a dead letter is bounded here: one that its topic refuses would stop its partition.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from msgspec import structs

from mailstream.domain import email_id
from mailstream.domain import senders as sender
from mailstream.domain.dead_letter import DeadLetter, Reason
from mailstream.domain.record import Record
from mailstream.domain.request import Control, EmailRequest, InBatch
from mailstream.domain.topics import KIB, MAX_ENVELOPE_BYTES, MAX_REQUEST_BYTES
from mailstream.domain.validation import NAME_IN_STATUS, Violation, mistakes_of_control, mistakes_of_depth, validate

Fault = tuple[Reason, str]

LONGEST_DETAIL = 500  #: characters of a sentence about a fault
LONGEST_REASON = 500  #: characters of what callers say
#: What a copy of ours may have more than the request that it is made of: the id that it carries.
COPY_BYTES = KIB
#: More than the clocks of API and worker may differ before one of them says so.
CLOCK_SLACK = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Rules:
    """What the settings say about intake."""

    partitions: int
    max_age_seconds: float
    senders: frozenset[str]  #: canonical addresses, or @domain


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that we cannot take; the other members are of the email that it asks for, where they can be read."""

    dead_letter: DeadLetter
    id: str | None = None
    tenant: str = ""
    reference: str | None = None
    batch: InBatch | None = None


def of_size(value: bytes, key: bytes | None, headers: Mapping[str, bytes | None], *, is_copy: bool) -> Fault | None:
    """Why the record is too large, if it is; ``is_copy``: we made it from a request that was not."""
    allowed = MAX_REQUEST_BYTES + (COPY_BYTES if is_copy else 0)
    if len(value) > allowed:
        return Reason.TOO_LARGE, f"the record has {len(value)} bytes; {allowed} are allowed"
    envelope = len(key or b"")
    for name, content in headers.items():
        envelope += len(name) + len(content or b"")
    if envelope > MAX_ENVELOPE_BYTES:
        return Reason.TOO_LARGE, f"key and headers have {envelope} bytes; {MAX_ENVELOPE_BYTES} are allowed"
    return None


def of_depth(request: EmailRequest) -> Fault | None:
    """Why the request cannot be encoded again, if so: ask before anything else is done with it."""
    mistakes = mistakes_of_depth(request) if request.data or request.provider_options else []
    return (Reason.BAD_VALUE, _told(mistakes)) if mistakes else None


def of_request(
    request: EmailRequest, *, born: float, now: float, max_age_seconds: float, senders: Collection[str]
) -> Fault | None:
    """Why a new email may not be taken, if so. ``born``: when it was asked for, in seconds since 1970."""
    if now - born > max_age_seconds:
        return Reason.EVENT_TOO_OLD, f"asked for more than {max_age_seconds:.0f} s ago; redrive it if it is wanted"
    if mistakes := validate(request, now=_ahead(now)):
        is_address = all(mistake.pointer.startswith("/to") for mistake in mistakes)
        return (Reason.BAD_ADDRESS if is_address else Reason.BAD_VALUE), _told(mistakes)
    if request.from_ is not None and not sender.is_allowed(request.from_.email, senders):
        return Reason.SENDER_NOT_ALLOWED, "the from address is not among the senders of this system"
    return None


def fault_of(
    received: Record, request: EmailRequest, rules: Rules, now: float, *, is_carried: bool = False
) -> Fault | None:
    born = received.timestamp_ms / 1000
    if not is_carried and (asked_at := request.requested_at) is not None:
        born = min(born, (asked_at if asked_at.tzinfo else asked_at.replace(tzinfo=UTC)).timestamp())
    return of_request(request, born=born, now=now, max_age_seconds=rules.max_age_seconds, senders=rules.senders)


def of_control(control: Control, now: float) -> Fault | None:
    """Why a control record makes no sense, if so."""
    mistakes = mistakes_of_control(control, now=_ahead(now))
    return (Reason.BAD_VALUE, _told(mistakes)) if mistakes else None


def shortened(control: Control) -> Control:
    """The control record with no more words than a status can keep."""
    if len(control.by) <= NAME_IN_STATUS and len(control.reason) <= LONGEST_REASON:
        return control
    return structs.replace(control, by=control.by[:NAME_IN_STATUS], reason=control.reason[:LONGEST_REASON])


def rejected(
    received: Record, fault: Fault, id_: str | None = None, tenant: str = "", asked: EmailRequest | None = None
) -> Rejected:
    """The record with why it cannot be taken, and what its email's status needs, as far as that can be read."""
    letter = DeadLetter(fault[0], fault[1][:LONGEST_DETAIL], received)
    if id_ is None or not email_id.is_email_id(id_):
        return Rejected(letter)
    reference, batch = (asked.reference, asked.batch) if asked is not None else (None, None)
    most = NAME_IN_STATUS  # it may be one of these that the record is refused for
    return Rejected(
        letter,
        id_,
        tenant if len(tenant) <= most else "",
        reference if reference is not None and len(reference) <= most else None,
        batch if batch is not None and max(len(batch.id), len(batch.fingerprint)) <= most else None,
    )


def _told(mistakes: Sequence[Violation]) -> str:
    """Places and sentences, as the API tells them."""
    return "; ".join(f"{_place_of(mistake)}: {mistake.detail}" for mistake in mistakes[:5])[:LONGEST_DETAIL]


def _ahead(now: float) -> datetime:
    """The moment by which a time counts as too far ahead: what the API has let in a clock of ours must not refuse."""
    return datetime.fromtimestamp(now, UTC) + CLOCK_SLACK


def _place_of(mistake: Violation) -> str:
    """Names of headers and metadata are the caller's own words: an address could be among them."""
    _, member, *rest = (*mistake.pointer.split("/"), "")
    return f"/{member}" if member in ("headers", "metadata") or not rest else mistake.pointer
