"""A domain event and the rules to requests and cancels, or the reason why there is none. No clock, no I/O of its own."""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
from msgspec import structs

from mailstream.domain import codec, email_id
from mailstream.domain.dead_letter import Reason
from mailstream.domain.errors import BadAddress, TemplateError
from mailstream.domain.recipient import canonical
from mailstream.domain.request import Address, Cap, Control, ControlKind, Digest, EmailRequest
from mailstream.domain.topics import MAX_REQUEST_BYTES
from mailstream.domain.validation import validate
from mailstream.templates.catalog import Rendered
from streams.core.trigger_result import TriggerResult
from streams.triggers import event as trigger_event
from streams.triggers.event import BadEvent, DomainEvent, Received
from streams.triggers.expression import Expression, Unanswered, is_true
from streams.triggers.rule_schema import CancelRule, MailRule, Rule
from streams.triggers.rules import Rules

MAX_RECIPIENTS = 1000

#: Template, data and locale to a mail. Raises TemplateError.
Render = Callable[[str, dict[str, Any], str | None], Awaitable[Rendered]]

_deterministic = msgspec.json.Encoder(order="deterministic")


@dataclass(frozen=True, slots=True)
class Failure:
    """A record that is no event, or a rule that applied and gave nothing, or less than it should."""

    reason: Reason
    detail: str  #: names rule and place, never a value


@dataclass(frozen=True, slots=True)
class Decision:
    """What one rule makes of one event."""

    rule: str
    requests: tuple[EmailRequest, ...] = ()
    controls: tuple[Control, ...] = ()
    failures: tuple[Failure, ...] = ()
    why_not: str | None = None  #: why a rule that reads this type does not apply


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the rules make of one record."""

    result: TriggerResult
    event: DomainEvent | None = None
    decisions: tuple[Decision, ...] = ()
    failures: tuple[Failure, ...] = ()  #: of the record, or of all its decisions: one dead letter

    def detail(self) -> str:
        """What failed, for people."""
        return "; ".join(failure.detail for failure in self.failures[:10])

    def ids(self) -> tuple[str, ...]:
        """The emails that are asked for or cancelled."""
        records: list[EmailRequest | Control] = []
        for decision in self.decisions:
            records += [*decision.requests, *decision.controls]
        return tuple(record.id or "" for record in records)


def is_foreign(received: Received, rules: Rules) -> bool:
    """Whether the headers say that no rule reads this event: its value may be of a form that only its owner reads."""
    kind = trigger_event.type_in_headers(received)
    return kind is not None and not rules.matching(received.name, kind)


def unreadable(detail: str) -> Ruling:
    """The ruling over a record that is no domain event."""
    return Ruling(TriggerResult.UNREADABLE, failures=(Failure(Reason.BAD_EVENT, detail),))


async def decide(received: Received, rules: Rules, render: Render, *, now: datetime, max_age: timedelta) -> Ruling:
    """What the rules make of one record. Never raises, for any record; awaits only ``render``."""
    if is_foreign(received, rules):
        return Ruling(TriggerResult.UNCONCERNED)
    try:
        event = trigger_event.read(received, rules.form(received.name))
    except (BadEvent, Unanswered) as error:
        return unreadable(str(error))
    matching: Sequence[Rule] = () if event is None else rules.matching(event.topic, event.type)
    if event is None or not matching:
        return Ruling(TriggerResult.UNCONCERNED)
    if now - event.oldest_at > max_age:
        # a late cancel is still right: what it withdraws may be waiting for months
        matching = [rule for rule in matching if isinstance(rule, CancelRule)]
        if not matching:
            return Ruling(TriggerResult.TOO_OLD, event)
    decisions = tuple([await _decision(rule, event, rules, render, now) for rule in matching])
    failures = tuple(failure for decision in decisions for failure in decision.failures)
    is_asked = any(decision.requests or decision.controls for decision in decisions)
    result = TriggerResult.FAILED if failures else TriggerResult.ASKED if is_asked else TriggerResult.PASSED_OVER
    return Ruling(result, event, decisions, failures)


class _Nothing(Exception):
    """The mapping of a rule gave nothing to send or to cancel."""


async def _decision(rule: Rule, event: DomainEvent, rules: Rules, render: Render, now: datetime) -> Decision:
    try:
        if rule.when and not is_true(rule.when.of(event.document)):
            return Decision(rule.name, why_not=f"when: {rule.when.source}")
        if isinstance(rule, CancelRule):
            return _cancel(rule, rules.mail(rule.cancels), event)
        return await _mail(rule, event, render, now)
    except (_Nothing, Unanswered) as error:
        return _failed(rule, Reason.MAPPING_FAILED, str(error))
    except TemplateError as error:
        return _failed(rule, Reason.TEMPLATE_FAILED, str(error))


def _failed(rule: Rule, reason: Reason, detail: str) -> Decision:
    return Decision(rule.name, failures=(Failure(reason, f"rule {rule.name}: {detail}"),))


async def _mail(rule: MailRule, event: DomainEvent, render: Render, now: datetime) -> Decision:
    """One request for each recipient, rendered once for all. Raises _Nothing, Unanswered, TemplateError."""
    document = event.document
    recipients, failures = _mailboxes(rule, document)
    data = {name: expression.of(document) for name, expression in rule.data.items()}
    due_at = _due_at(rule, event)
    identity = event.id if rule.identity is None else _name("identity", rule.identity, document)
    reference, locale = _text("reference", rule.reference, document), _text("locale", rule.locale, document)
    key, digest = f"{identity}/{rule.name}", rule.digest
    mail = await render(rule.template, data, locale)
    draft = EmailRequest(
        to=Address(""),
        tenant=rule.tenant,
        source=event.source,
        idempotency_key=key,
        requested_at=now,
        from_=Address(rule.from_, rule.from_name) if rule.from_ else None,
        reply_to=Address(rule.reply_to) if rule.reply_to else None,
        subject=mail.subject,
        text=mail.text,
        html=mail.html,
        template=rule.template,  # rendered already: only its name goes on
        lane=rule.lane,
        send_at=due_at,
        expires_at=(due_at or event.at) + rule.expires_after if rule.expires_after else None,
        reference=reference,
        tags=tuple(rule.tags),
        on_ambiguous=rule.on_ambiguous,
        unsubscribe=rule.unsubscribe,
        cap=Cap(rule.cap.key or rule.name, rule.cap.count, _seconds(rule.cap.per)) if rule.cap else None,
        # of what was asked, not of the mail: a template that changes between two readings makes no conflict
        fingerprint=hashlib.sha256(_deterministic.encode([rule.name, data, due_at])).hexdigest(),
    )
    if digest is not None:  # rendered again when it closes, with the data of its other events
        named = Digest(digest.key or rule.name, _seconds(digest.window), digest.template)
        draft = structs.replace(draft, digest=named, data=data, locale=locale)
    requests: dict[str, EmailRequest] = {}
    for to, recipient in recipients:
        request = structs.replace(draft, to=to, id=email_id.derived(rule.tenant, event.source, key, recipient))
        if (failure := _refusal_of(request, rule, now)) is not None:
            failures.append(failure)
        else:
            requests.setdefault(recipient, request)
    return Decision(rule.name, tuple(requests.values()), failures=tuple(failures))


def _refusal_of(request: EmailRequest, rule: MailRule, now: datetime) -> Failure | None:
    """Why a worker would not take the request, if so."""
    if mistakes := validate(request, now=now):
        is_address = all(mistake.pointer.startswith("/to") for mistake in mistakes)
        reason = Reason.BAD_ADDRESS if is_address else Reason.BAD_VALUE
        told = "; ".join(f"{pointer}: {detail}" for pointer, _, detail in mistakes[:5])
        return Failure(reason, f"rule {rule.name}: {told}")
    if len(codec.encode(request)) > MAX_REQUEST_BYTES:
        return Failure(Reason.TOO_LARGE, f"rule {rule.name}: the mail is too large")
    return None


def _seconds(duration: timedelta) -> int:
    return int(duration.total_seconds())


def _cancel(rule: CancelRule, mail: MailRule, event: DomainEvent) -> Decision:
    """Withdraw what ``mail`` asked for: its ids follow from the same names."""
    identity = _name("identity", rule.identity, event.document)
    source = event.source if rule.source is None else _name("source", rule.source, event.document)
    recipients, failures = _mailboxes(rule, event.document)
    controls: dict[str, Control] = {}
    for _, recipient in recipients:
        id_ = email_id.derived(mail.tenant, source, f"{identity}/{mail.name}", recipient)
        by, reason = f"rule {rule.name}", rule.reason or event.type
        controls[id_] = Control(kind=ControlKind.CANCEL, id=id_, by=by, reason=reason, tenant=mail.tenant)
    return Decision(rule.name, controls=tuple(controls.values()), failures=tuple(failures))


def _mailboxes(rule: Rule, document: Any) -> tuple[list[tuple[Address, str]], list[Failure]]:
    """Each address as it is written, and in its canonical form. A bad one is a failure, and costs only its own mail."""
    found = rule.to.of(document)
    several = found if isinstance(found, list) else [found]
    if found is None or not several:
        raise _Nothing(f"to: {rule.to.source!r} found no recipient")
    if len(several) > MAX_RECIPIENTS:
        raise _Nothing(f"to: more than {MAX_RECIPIENTS} recipients")
    mailboxes, failures = [], []
    for each in several:
        try:
            mailboxes.append(_mailbox(each))
        except BadAddress as error:
            failures.append(Failure(Reason.BAD_ADDRESS, f"rule {rule.name}: to: {error}"))
    return mailboxes, failures


def _mailbox(found: Any) -> tuple[Address, str]:
    """An address as it is written, and in its canonical form. Raises BadAddress."""
    email, name = (found.get("email"), found.get("name")) if isinstance(found, dict) else (found, None)
    if not isinstance(email, str) or not isinstance(name, str | None):
        raise BadAddress("neither an address nor an object with email and name")
    return Address(email, name or None), canonical(email)


def _name(member: str, expression: Expression, document: Any) -> str:
    """What a rule takes as a part of an id."""
    found = expression.of(document)
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found)
    if isinstance(found, str) and 0 < len(found) <= trigger_event.MAX_ATTRIBUTE_CHARACTERS and found.isprintable():
        return found
    raise _Nothing(f"{member}: {expression.source!r} gave no usable text or number")


def _due_at(rule: MailRule, event: DomainEvent) -> datetime | None:
    if rule.delay is not None:
        return event.at + rule.delay
    if rule.send_at is None or (found := rule.send_at.of(event.document)) is None:
        return None
    try:
        at = msgspec.convert(found, datetime)
    except msgspec.ValidationError:
        at = None
    if at is None or at.tzinfo is None:
        raise _Nothing(f"send_at: {rule.send_at.source!r} gave no RFC 3339 time")
    return at


def _text(member: str, expression: Expression | None, document: Any) -> str | None:
    found = None if expression is None else expression.of(document)
    if found is None or isinstance(found, str):
        return found
    if isinstance(found, int | float) and not isinstance(found, bool):
        return str(found)
    assert expression is not None
    raise _Nothing(f"{member}: {expression.source!r} gave neither text nor number")
