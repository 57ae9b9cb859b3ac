"""The shape of ``triggers.yaml``: what may stand in a rule.

Everything in a rule that depends on an event is a JMESPath expression over the event: ``id``, ``source``, ``type``,
``subject``, ``time``, any extension, and its content under ``data``. Names of things (topic, template, lane) are plain.
"""

import re
from datetime import timedelta
from typing import Annotated, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)  # fmt: skip

from mailstream.domain.errors import BadAddress
from mailstream.domain.recipient import canonical
from mailstream.domain.request import Lane, OnAmbiguous
from mailstream.domain.start import Start
from mailstream.domain.validation import CAP_COUNT, CAP_SECONDS, DIGEST_SECONDS
from streams.triggers.expression import Expression

_TEMPLATE = r"^[a-z0-9][a-z0-9._-]{0,99}(@\d+)?$"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"(\d{1,9})([smhd])")


def _duration(value: object) -> timedelta:
    if isinstance(value, str) and (found := _DURATION.fullmatch(value)):
        return timedelta(seconds=int(found[1]) * _UNITS[found[2]])
    raise ValueError("expected a whole number with a unit: 90s, 15m, 12h or 3d")


def _several(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _address(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("expected an address as text")
    try:
        canonical(value)
    except BadAddress as error:
        raise ValueError(str(error)) from None
    return value


ParsedRequest = Annotated[Expression, BeforeValidator(Expression)]
Duration = Annotated[timedelta, BeforeValidator(_duration)]
Mailbox = Annotated[str, BeforeValidator(_address)]
TopicName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
RuleName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class TopicRule(_Strict):
    """What must be known about a topic. ``id``, ``type`` and ``time`` are for plain JSON: a CloudEvent says it itself."""

    id: ParsedRequest | None = None  #: None: an event is known by its place in the log
    type: ParsedRequest | None = None  #: None: the topic has one kind of event only
    time: ParsedRequest | None = None  #: RFC 3339, or a number of seconds or milliseconds since 1970
    start: Start | AwareDatetime = Start.RECENT
    exact_name: bool = Field(False, description="the topic does not carry TOPIC_PREFIX")


class _Reading(_Strict):
    name: RuleName
    topic: TopicName
    type: Annotated[list[str], BeforeValidator(_several), Field(min_length=1)]
    when: ParsedRequest | None = Field(None, description="the rule applies when this is neither false, null nor empty")
    to: ParsedRequest = Field(description="an address, {email, name}, or a list of these: one mail each")


class CapRule(_Strict):
    """At most so many mails to one recipient in any such time; what is beyond ends SUPPRESSED."""

    count: int = Field(ge=1, le=CAP_COUNT)
    per: Annotated[Duration, Field(gt=timedelta(0), le=timedelta(seconds=CAP_SECONDS))]
    key: RuleName | None = Field(None, description="rules that share it are counted together; the rule's own name")


class DigestRule(_Strict):
    """What happens to one recipient within the window becomes one mail."""

    window: Annotated[Duration, Field(gt=timedelta(0), le=timedelta(seconds=DIGEST_SECONDS))]
    template: str = Field(pattern=_TEMPLATE, description="gets events: the data of each")
    key: RuleName | None = Field(None, description="rules that share it are gathered together; the rule's own name")


class MailRule(_Reading):
    """One kind of event to one kind of mail."""

    template: str = Field(pattern=_TEMPLATE, description="name, or name@version")
    data: dict[str, ParsedRequest] = Field(default_factory=dict, description="what the template gets")
    locale: ParsedRequest | None = None
    lane: Lane = Lane.NORMAL
    send_at: ParsedRequest | None = Field(None, description="RFC 3339")
    delay: Duration | None = Field(None, description="after the event's own time")
    expires_after: Duration | None = Field(None, description="after the time at which it is due")
    identity: ParsedRequest | None = Field(
        None, description="in place of the event's id: one mail per such value and rule"
    )
    tenant: str = Field("default", pattern=r"^[A-Za-z0-9._-]{1,64}$")
    from_: Mailbox | None = Field(None, alias="from")
    from_name: str | None = None
    reply_to: Mailbox | None = None
    reference: ParsedRequest | None = None
    tags: list[str] = Field(default_factory=list, max_length=10)
    on_ambiguous: OnAmbiguous | None = None
    unsubscribe: bool = False
    cap: CapRule | None = None
    digest: DigestRule | None = None

    @model_validator(mode="after")
    def _one_time(self) -> Self:
        if self.send_at and self.delay:
            raise ValueError("send_at and delay exclude each other")
        if self.digest and (self.send_at or self.delay):
            raise ValueError("a digest has a time of its own: neither send_at nor delay goes with it")
        return self


class CancelRule(_Reading):
    """One kind of event that withdraws a mail which another rule asked for and which is not sent yet.

    ``to`` and ``identity`` must give what they gave then: the id of the mail follows from them.
    """

    cancels: RuleName
    identity: ParsedRequest = Field(description="gives what the identity of the cancelled rule gave")
    source: ParsedRequest | None = Field(
        None, description="the source of the event that asked; this event's own by default"
    )
    reason: str | None = Field(None, max_length=200, description="shown on the timeline; the event's type by default")


Rule = MailRule | CancelRule


def _kind_of_rule(value: object) -> str:
    return "cancel" if isinstance(value, dict) and "cancels" in value else "mail"


class RuleFile(_Strict):
    """``triggers.yaml`` as a whole."""

    topics: dict[TopicName, TopicRule] = Field(default_factory=dict)
    rules: list[
        Annotated[Annotated[MailRule, Tag("mail")] | Annotated[CancelRule, Tag("cancel")], Discriminator(_kind_of_rule)]
    ] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_meet(self) -> Self:
        seen: dict[str, Rule] = {}
        for rule in self.rules:
            if rule.name in seen:
                raise ValueError(f"two rules are called {rule.name}; the name is part of every id that it makes")
            seen[rule.name] = rule
        for rule in self.rules:
            if not isinstance(rule, CancelRule):
                continue
            mail = seen.get(rule.cancels)
            if not isinstance(mail, MailRule) or mail.identity is None:
                raise ValueError(f"rule {rule.name}: {rule.cancels} must be a rule with a template and an identity")
        if unused := set(self.topics) - {rule.topic for rule in self.rules}:
            raise ValueError(f"no rule reads the topic {min(unused)}")
        return self
