"""A domain event and the rules to requests and cancels, or the reason why there is none. No I/O, no clock of its own.

Two steps, because rendering happens elsewhere: ``judge`` says which mails an event wishes for; ``fulfil`` puts the
rendered mails into them.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import msgspec

from mailstream import email_id
from mailstream.dead_letter import Reason
from mailstream.errors import BadAddress, TemplateError
from mailstream.mistakes import mistakes_in
from mailstream.recipient import canonical
from mailstream.request import Address, Cap, Control, ControlKind, Digest, EmailRequest
from mailstream.templates import Rendered
from streams.core import trigger_event
from streams.core.rules import Rules
from streams.core.rules_model import CancelRule, MailRule, Rule
from streams.core.trigger_event import BadEvent, DomainEvent, Received
from streams.core.trigger_expression import Expression, Unanswered, is_true

MAX_RECIPIENTS = 1000

_deterministic = msgspec.json.Encoder(order="deterministic")


@dataclass(frozen=True, slots=True)
class Failure:
    """A rule that applied and gave nothing, or less than it should."""

    reason: Reason
    detail: str  #: names rule and place, never a value


@dataclass(frozen=True, slots=True)
class Wish:
    """A mail that has still to be rendered: once for all its recipients."""

    template: str
    locale: str | None
    data: dict[str, Any]
    recipients: list[Any]  #: as the event has them
    members: dict[str, Any]  #: of the request, the same for each recipient


@dataclass(frozen=True, slots=True)
class Decision:
    """What one rule makes of one event."""

    rule: str
    wish: Wish | None = None
    requests: tuple[EmailRequest, ...] = ()
    controls: tuple[Control, ...] = ()
    failures: tuple[Failure, ...] = ()
    why_not: str | None = None  #: why a rule that reads this type does not apply


@dataclass(frozen=True, slots=True)
class Concerned:
    """Rules read this type of event."""

    event: DomainEvent
    decisions: tuple[Decision, ...]


@dataclass(frozen=True, slots=True)
class Unconcerned:
    """No rule reads this type of event, or the record only deletes: nothing to do."""


@dataclass(frozen=True, slots=True)
class TooOld:
    """Older than MAX_EVENT_AGE: its mail may have been sent and forgotten (amendment 4)."""

    event: DomainEvent


@dataclass(frozen=True, slots=True)
class Unreadable:
    """No domain event: a dead letter."""

    failure: Failure


Ruling = Concerned | Unconcerned | TooOld | Unreadable


def is_foreign(received: Received, rules: Rules) -> bool:
    """Whether the headers say that no rule reads this event: its value may be of a form that only its owner reads."""
    kind = trigger_event.type_in_headers(received)
    return kind is not None and not rules.matching(received.name, kind)


def judge(received: Received, rules: Rules, *, now: datetime, max_age: timedelta) -> Ruling:
    """What the rules make of one record. Never raises, whatever the record holds."""
    if is_foreign(received, rules):
        return Unconcerned()
    try:
        event = trigger_event.read(received, rules.form(received.name))
    except (BadEvent, Unanswered) as error:
        return Unreadable(Failure(Reason.BAD_EVENT, str(error)))
    matching: Sequence[Rule] = () if event is None else rules.matching(event.topic, event.type)
    if event is None or not matching:
        return Unconcerned()
    if now - event.oldest_at > max_age:
        # a late cancel is still right: what it withdraws may be waiting for months
        matching = [rule for rule in matching if isinstance(rule, CancelRule)]
        if not matching:
            return TooOld(event)
    return Concerned(event, tuple(_decide(rule, event, rules, now) for rule in matching))


def fulfil(ruling: Ruling, render: Callable[[Wish], Rendered | TemplateError]) -> Ruling:
    """The ruling with the mails in place of the wishes. ``render`` returns what went wrong."""
    if not isinstance(ruling, Concerned):
        return ruling
    return Concerned(ruling.event, tuple(_fulfilled(decision, render) for decision in ruling.decisions))


def wishes(ruling: Ruling) -> Iterator[Wish]:
    """What has to be rendered."""
    if isinstance(ruling, Concerned):
        yield from (decision.wish for decision in ruling.decisions if decision.wish)


class _Nothing(Exception):
    """The mapping of a rule gave nothing to send or to cancel."""


def _decide(rule: Rule, event: DomainEvent, rules: Rules, now: datetime) -> Decision:
    try:
        if rule.when and not is_true(rule.when.of(event.document)):
            return Decision(rule.name, why_not=f"when: {rule.when.source}")
        if isinstance(rule, CancelRule):
            return _cancel(rule, rules.mail(rule.cancels), event)
        return Decision(rule.name, wish=_wish(rule, event, now))
    except (_Nothing, Unanswered) as error:
        return Decision(rule.name, failures=(Failure(Reason.MAPPING_FAILED, f"rule {rule.name}: {error}"),))


def _wish(rule: MailRule, event: DomainEvent, now: datetime) -> Wish:
    document = event.document
    recipients = _recipients(rule, document)
    data = {name: expression.of(document) for name, expression in rule.data.items()}
    due_at = _due_at(rule, event)
    identity = event.id if rule.identity is None else _name("identity", rule.identity, document)
    members = {
        "tenant": rule.tenant,
        "source": event.source,
        "idempotency_key": f"{identity}/{rule.name}",
        "requested_at": now,
        "from_": rule.from_ and Address(rule.from_, rule.from_name),
        "reply_to": rule.reply_to and Address(rule.reply_to),
        "template": rule.template,  # rendered already: only its name goes on
        "lane": rule.lane,
        "send_at": due_at,
        "expires_at": rule.expires_after and (due_at or event.at) + rule.expires_after,
        "reference": _text("reference", rule.reference, document),
        "tags": tuple(rule.tags),
        "on_ambiguous": rule.on_ambiguous,
        "unsubscribe": rule.unsubscribe,
        "cap": rule.cap and Cap(rule.cap.key or rule.name, rule.cap.count, _seconds(rule.cap.per)),
        # of what was asked, not of the mail: a template that changes between two readings makes no conflict
        "fingerprint": hashlib.sha256(_deterministic.encode([rule.name, data, due_at])).hexdigest(),
    }
    locale = _text("locale", rule.locale, document)
    if (digest := rule.digest) is not None:  # rendered again when it closes, with the data of its other events
        named = Digest(digest.key or rule.name, _seconds(digest.window), digest.template)
        members |= {"digest": named, "data": data, "locale": locale}
    return Wish(rule.template, locale, data, recipients, members)


def _seconds(duration: timedelta) -> int:
    return int(duration.total_seconds())


def _fulfilled(decision: Decision, render: Callable[[Wish], Rendered | TemplateError]) -> Decision:
    """One request for each recipient; a bad address costs only its own mail."""
    if (wish := decision.wish) is None:
        return decision
    mail = render(wish)
    if isinstance(mail, TemplateError):
        failure = Failure(Reason.TEMPLATE_FAILED, f"rule {decision.rule}: {mail}")
        return replace(decision, wish=None, failures=(*decision.failures, failure))
    members = {**wish.members, "subject": mail.subject, "text": mail.text, "html": mail.html}
    requests: dict[str, EmailRequest] = {}
    failures: list[Failure] = []
    for found in wish.recipients:
        try:
            to, recipient = _mailbox(found)
        except BadAddress as error:
            failures.append(Failure(Reason.BAD_ADDRESS, f"rule {decision.rule}: to: {error}"))
            continue
        id_ = email_id.derived(members["tenant"], members["source"], members["idempotency_key"], recipient)
        request = EmailRequest(to=to, id=id_, **members)
        if mistakes := mistakes_in(request, now=members["requested_at"]):
            is_address = all(mistake.pointer.startswith("/to") for mistake in mistakes)
            reason = Reason.BAD_ADDRESS if is_address else Reason.BAD_VALUE
            told = "; ".join(f"{pointer}: {detail}" for pointer, _, detail in mistakes[:5])
            failures.append(Failure(reason, f"rule {decision.rule}: {told}"))
        else:
            requests.setdefault(recipient, request)
    return replace(decision, wish=None, requests=tuple(requests.values()), failures=tuple(failures))


def _cancel(rule: CancelRule, mail: MailRule, event: DomainEvent) -> Decision:
    """Withdraw what ``mail`` asked for: its ids follow from the same names."""
    identity = _name("identity", rule.identity, event.document)
    source = event.source if rule.source is None else _name("source", rule.source, event.document)
    controls: dict[str, Control] = {}
    failures: list[Failure] = []
    for found in _recipients(rule, event.document):
        try:
            _, recipient = _mailbox(found)
        except BadAddress as error:
            failures.append(Failure(Reason.BAD_ADDRESS, f"rule {rule.name}: to: {error}"))
            continue
        id_ = email_id.derived(mail.tenant, source, f"{identity}/{mail.name}", recipient)
        by, reason = f"rule {rule.name}", rule.reason or event.type
        controls[id_] = Control(kind=ControlKind.CANCEL, id=id_, by=by, reason=reason, tenant=mail.tenant)
    return Decision(rule.name, controls=tuple(controls.values()), failures=tuple(failures))


def _recipients(rule: Rule, document: Any) -> list[Any]:
    found = rule.to.of(document)
    several = found if isinstance(found, list) else [found]
    if found is None or not several:
        raise _Nothing(f"to: {rule.to.source!r} found nobody")
    if len(several) > MAX_RECIPIENTS:
        raise _Nothing(f"to: more than {MAX_RECIPIENTS} recipients")
    return several


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
