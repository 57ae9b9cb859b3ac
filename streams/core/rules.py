"""The trigger rules of ``triggers.yaml``: which domain event asks for which mail.

Everything in a rule that depends on an event is a JMESPath expression over the event: ``id``, ``source``, ``type``,
``subject``, ``time``, any extension, and its content under ``data``. Names of things (topic, template, lane) are plain.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Self

import yaml
from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from mailstream.errors import BadAddress, WrongRules
from mailstream.recipient import canonical
from mailstream.request import Lane, OnAmbiguous
from mailstream.settings import Settings
from mailstream.templates import Templates
from streams.core.faults import may_send_as
from streams.core.trigger_event import ANY_TYPE, PlainForm
from streams.core.trigger_expression import Expression

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"(\d{1,9})([smhd])")


def _expression(value: object) -> Expression:
    if not isinstance(value, str):
        raise ValueError("expected a JMESPath expression as text")
    return Expression(value)


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


Asked = Annotated[Expression, BeforeValidator(_expression)]
Duration = Annotated[timedelta, BeforeValidator(_duration)]
Mailbox = Annotated[str, BeforeValidator(_address)]
TopicName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
RuleName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class Start(StrEnum):
    """Where a topic is begun that the triggers never read before."""

    RECENT = "recent"  #: at MAX_EVENT_AGE: what is older sends nothing anyway
    EARLIEST = "earliest"  #: at its beginning, to count what is too old
    LATEST = "latest"  #: at its end: nothing that has happened is mailed


class TopicRule(_Strict):
    """What must be known about a topic. ``id``, ``type`` and ``time`` are for plain JSON: a CloudEvent says it itself."""

    id: Asked | None = None
    type: Asked | None = None
    time: Asked | None = None
    start: Start | AwareDatetime = Start.RECENT
    exact_name: bool = Field(False, description="the topic does not carry TOPIC_PREFIX")


class _Reading(_Strict):
    name: RuleName
    topic: TopicName
    type: Annotated[list[str], BeforeValidator(_several), Field(min_length=1)]
    when: Asked | None = Field(None, description="the rule applies when this is neither false, null nor empty")
    to: Asked = Field(description="an address, {email, name}, or a list of these: one mail each")


class MailRule(_Reading):
    """One kind of event to one kind of mail."""

    template: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,99}(@\d+)?$", description="name, or name@version")
    data: dict[str, Asked] = Field(default_factory=dict, description="what the template gets")
    locale: Asked | None = None
    lane: Lane = Lane.NORMAL
    send_at: Asked | None = Field(None, description="RFC 3339")
    delay: Duration | None = Field(None, description="after the event's own time")
    expires_after: Duration | None = Field(None, description="after the time at which it is due")
    identity: Asked | None = Field(None, description="in place of the event's id: one mail per such value and rule")
    tenant: str = Field("default", pattern=r"^[A-Za-z0-9._-]{1,64}$")
    from_: Mailbox | None = Field(None, alias="from")
    from_name: str | None = None
    reply_to: Mailbox | None = None
    reference: Asked | None = None
    tags: list[str] = Field(default_factory=list, max_length=10)
    on_ambiguous: OnAmbiguous | None = None
    unsubscribe: bool = False

    @model_validator(mode="after")
    def _one_time(self) -> Self:
        if self.send_at and self.delay:
            raise ValueError("send_at and delay exclude each other")
        return self


class CancelRule(_Reading):
    """One kind of event that withdraws a mail which another rule asked for and which is not sent yet.

    ``to`` and ``identity`` must give what they gave then: the id of the mail follows from them.
    """

    cancels: RuleName
    identity: Asked = Field(description="gives what the identity of the cancelled rule gave")
    source: Asked | None = Field(None, description="the source of the event that asked; this event's own by default")
    reason: str | None = Field(None, max_length=200, description="shown on the timeline; the event's type by default")


Rule = MailRule | CancelRule


def _kind_of_rule(value: object) -> str:
    return "cancel" if isinstance(value, dict) and "cancels" in value else "mail"


class _File(_Strict):
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


_NO_FORM = PlainForm()


class Rules:
    """All rules, found by topic and type: what an event costs does not grow with their number."""

    def __init__(self, rules: Iterable[Rule], topics: Mapping[str, TopicRule] | None = None) -> None:
        self.rules = tuple(rules)
        self._topics = dict(topics or {})
        self._mails = {rule.name: rule for rule in self.rules if isinstance(rule, MailRule)}
        by_place: dict[tuple[str, str], list[Rule]] = defaultdict(list)
        for rule in self.rules:
            for kind in rule.type:
                by_place[rule.topic, kind].append(rule)
        self._by_place = {place: tuple(found) for place, found in by_place.items()}
        self._forms = {name: PlainForm(topic.id, topic.type, topic.time) for name, topic in self._topics.items()}

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics that the rules read, in their order, without prefix."""
        return tuple(dict.fromkeys(rule.topic for rule in self.rules))

    def full_name(self, topic: str, prefix: str) -> str:
        """The name of the topic on this cluster."""
        found = self._topics.get(topic)
        return topic if found and found.exact_name else prefix + topic

    def form(self, topic: str) -> PlainForm:
        """How plain JSON of this topic is read."""
        return self._forms.get(topic, _NO_FORM)

    def start(self, topic: str) -> Start | datetime:
        """Where the topic is begun when the triggers never read it before."""
        found = self._topics.get(topic)
        return found.start if found else Start.RECENT

    def mail(self, name: str) -> MailRule:
        """The rule of this name that asks for mail."""
        return self._mails[name]

    def matching(self, topic: str, kind: str) -> tuple[Rule, ...]:
        """The rules for this type, then those of the topic for any type."""
        exact = self._by_place.get((topic, kind), ())
        return exact if kind == ANY_TYPE else exact + self._by_place.get((topic, ANY_TYPE), ())


def parse(text: str, file: str = "triggers.yaml") -> Rules:
    """Rules from YAML. Raises WrongRules: one line per mistake, with file, line and place."""
    try:
        tree = yaml.compose(text, yaml.SafeLoader)
        if tree is not None and (twice := list(_twice(tree))):
            raise WrongRules("\n".join(f"{file} line {line}: {key} stands here a second time" for line, key in twice))
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise WrongRules(f"{file}{line}: no YAML: {getattr(error, 'problem', None) or 'cannot be read'}") from None
    except RecursionError:
        raise WrongRules(f"{file}: nested too deep") from None
    try:
        checked = _File.model_validate(found)
    except ValidationError as error:
        raise WrongRules("\n".join(_mistakes(error, tree, file))) from None
    return Rules(checked.rules, checked.topics)


def senders_of(settings: Settings) -> frozenset[str]:
    """Who may stand in ``from``: addresses in canonical form, or whole domains as ``@domain``."""
    given = (*settings.senders_allowed, settings.sender)
    return frozenset(
        sender.lower() if sender.startswith("@") else canonical(sender) for sender in given if sender is not None
    )


def require_usable(rules: Rules, templates: Templates, settings: Settings) -> None:
    """Raise WrongRules for a template that is not there, or a sender that the settings do not allow (security.md S8)."""
    senders = senders_of(settings)
    wrong = []
    for rule in rules.rules:
        if isinstance(rule, CancelRule):
            continue
        if not templates.has(rule.template):
            wrong.append(f"rule {rule.name}: there is no template {rule.template} in the templates folder")
        if rule.from_ is not None and not may_send_as(rule.from_, senders):
            wrong.append(f"rule {rule.name}: its from is neither MAILSTREAM_SENDER nor in MAILSTREAM_SENDERS_ALLOWED")
    if wrong:
        raise WrongRules("\n".join(wrong))


def _mistakes(error: ValidationError, tree: yaml.Node | None, file: str) -> Iterable[str]:
    for mistake in error.errors(include_input=False, include_url=False):
        place = mistake["loc"]
        if len(place) > 2 and place[0] == "rules":  # behind the index pydantic names the kind of rule
            place = place[:2] + place[3:]
        where = ".".join(str(part) for part in place) or "the file"
        yield f"{file} line {_line(tree, place)}: {where}: {mistake['msg'].removeprefix('Value error, ')}"


def _line(node: yaml.Node | None, place: tuple[str | int, ...]) -> int:
    """The line of the innermost node of this place that stands in the file."""
    line = node.start_mark.line + 1 if node else 1
    for part in place:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == part), None)
            if found is None:
                return line
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            return line
    return line


def _twice(node: yaml.Node) -> Iterable[tuple[int, str]]:
    """Keys that YAML would silently drop for a later one of the same name."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if key.value in seen:
                yield key.start_mark.line + 1, key.value
            seen.add(key.value)
            yield from _twice(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _twice(value)
