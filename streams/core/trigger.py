"""A domain event and the rules to requests, or the reason why there is none. No I/O, no clock of its own."""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec

from mailstream import email_id
from mailstream.dead_letter import Reason
from mailstream.errors import BadAddress, TemplateError
from mailstream.mistakes import mistakes_in
from mailstream.recipient import canonical
from mailstream.request import Address, EmailRequest
from mailstream.templates import Templates
from streams.core import trigger_event
from streams.core.rules import Rule, Rules
from streams.core.trigger_event import BadEvent, DomainEvent, Received
from streams.core.trigger_expression import Unanswered, is_true

MAX_RECIPIENTS = 1000

_deterministic = msgspec.json.Encoder(order="deterministic")


@dataclass(frozen=True, slots=True)
class Failure:
    """A rule that matched and gave no mail, or less than it should."""

    reason: Reason
    detail: str  #: names rule and place, never a value


@dataclass(frozen=True, slots=True)
class Decision:
    """What one rule makes of one event."""

    rule: str
    requests: tuple[EmailRequest, ...] = ()
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


def judge(received: Received, rules: Rules, templates: Templates, *, now: datetime, max_age: timedelta) -> Ruling:
    """Settle one record. Never raises, whatever the record holds."""
    kind = trigger_event.type_in_headers(received)
    if kind is not None and not rules.matching(received.topic, kind):
        return Unconcerned()  # without looking at a value that may be of a form that only its owner reads
    try:
        event = trigger_event.read(received, rules.form(received.topic))
    except (BadEvent, Unanswered) as error:
        return Unreadable(Failure(Reason.BAD_EVENT, str(error)))
    if event is None or not (matching := rules.matching(event.topic, event.type)):
        return Unconcerned()
    if now - event.oldest_at > max_age:
        return TooOld(event)
    return Concerned(event, tuple(decide(rule, event, templates, now=now) for rule in matching))


def decide(rule: Rule, event: DomainEvent, templates: Templates, *, now: datetime) -> Decision:
    """What this rule makes of the event: a mail for each recipient, already rendered."""
    try:
        if rule.when and not is_true(rule.when.of(event.document)):
            return Decision(rule.name, why_not=f"when: {rule.when.source}")
        found = _recipients(rule, event.document)
        return _addressed(found, _mail(rule, event, templates, now), rule)
    except TemplateError as error:
        return Decision(rule.name, failures=(Failure(Reason.TEMPLATE_FAILED, f"rule {rule.name}: {error}"),))
    except (_NoMail, Unanswered) as error:
        return Decision(rule.name, failures=(Failure(Reason.MAPPING_FAILED, f"rule {rule.name}: {error}"),))


class _NoMail(Exception):
    """The mapping of a rule gave no mail."""


def _mail(rule: Rule, event: DomainEvent, templates: Templates, now: datetime) -> dict[str, Any]:
    """The members of the request that are the same for each recipient. Raises TemplateError, _NoMail, Unanswered."""
    document = event.document
    data = {name: expression.of(document) for name, expression in rule.data.items()}
    due_at = _due_at(rule, event)
    rendered = templates.render(rule.template, data, locale=_text(rule, "locale", document))
    return {
        "tenant": rule.tenant,
        "source": event.source,
        "idempotency_key": f"{_identity(rule, event)}/{rule.name}",
        "requested_at": now,
        "from_": rule.from_ and Address(rule.from_, rule.from_name),
        "reply_to": rule.reply_to and Address(rule.reply_to),
        "subject": rendered.subject,
        "text": rendered.text,
        "html": rendered.html,
        "lane": rule.lane,
        "send_at": due_at,
        "expires_at": rule.expires_after and (due_at or event.at) + rule.expires_after,
        "reference": _text(rule, "reference", document),
        "tags": tuple(rule.tags),
        "on_ambiguous": rule.on_ambiguous,
        "unsubscribe": rule.unsubscribe,
        # of what was asked, not of the mail: a template that changes between two readings makes no conflict
        "fingerprint": hashlib.sha256(_deterministic.encode([rule.name, data, due_at])).hexdigest(),
    }


def _addressed(recipients: list[Any], mail: dict[str, Any], rule: Rule) -> Decision:
    """One request for each recipient; a bad address costs only its own mail."""
    requests: dict[str, EmailRequest] = {}
    failures: list[Failure] = []
    for found in recipients:
        try:
            to = _address(found)
            recipient = canonical(to.email)
        except BadAddress as error:
            failures.append(Failure(Reason.BAD_ADDRESS, f"rule {rule.name}: to: {error}"))
            continue
        id_ = email_id.derived(rule.tenant, mail["source"], mail["idempotency_key"], recipient)
        request = EmailRequest(to=to, id=id_, **mail)
        if mistakes := mistakes_in(request, now=mail["requested_at"]):
            reason = Reason.BAD_ADDRESS if mistakes[0].code == "bad_address" else Reason.BAD_VALUE
            told = "; ".join(f"{pointer}: {detail}" for pointer, _, detail in mistakes[:5])
            failures.append(Failure(reason, f"rule {rule.name}: {told}"))
        else:
            requests.setdefault(recipient, request)
    return Decision(rule.name, tuple(requests.values()), tuple(failures))


def _recipients(rule: Rule, document: Any) -> list[Any]:
    found = rule.to.of(document)
    several = found if isinstance(found, list) else [found]
    if found is None or not several:
        raise _NoMail(f"to: {rule.to.source!r} found nobody")
    if len(several) > MAX_RECIPIENTS:
        raise _NoMail(f"to: more than {MAX_RECIPIENTS} recipients")
    return several


def _address(found: Any) -> Address:
    if isinstance(found, str):
        return Address(found)
    if isinstance(found, dict) and isinstance(found.get("email"), str):
        name = found.get("name")
        if name is None or isinstance(name, str):
            return Address(found["email"], name or None)
    raise BadAddress("neither an address nor an object with email and name")


def _identity(rule: Rule, event: DomainEvent) -> str:
    if rule.identity is None:
        return event.id
    found = rule.identity.of(event.document)
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found)
    if isinstance(found, str) and 0 < len(found) <= trigger_event.MAX_ATTRIBUTE_CHARACTERS and found.isprintable():
        return found
    raise _NoMail(f"identity: {rule.identity.source!r} gave no usable text or number")


def _due_at(rule: Rule, event: DomainEvent) -> datetime | None:
    if rule.delay is not None:
        return event.at + rule.delay
    if rule.send_at is None or (found := rule.send_at.of(event.document)) is None:
        return None
    try:
        at = msgspec.convert(found, datetime)
    except msgspec.ValidationError:
        at = None
    if at is None or at.tzinfo is None:
        raise _NoMail(f"send_at: {rule.send_at.source!r} gave no RFC 3339 time")
    return at


def _text(rule: Rule, member: str, document: Any) -> str | None:
    expression = getattr(rule, member)
    found = None if expression is None else expression.of(document)
    if found is None or isinstance(found, str):
        return found
    if isinstance(found, int | float) and not isinstance(found, bool):
        return str(found)
    raise _NoMail(f"{member}: {expression.source!r} gave neither text nor number")
