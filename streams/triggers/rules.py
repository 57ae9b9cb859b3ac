"""The trigger rules: found by topic and type, read from ``triggers.yaml``, held against templates and senders."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import yaml
from pydantic import ValidationError

from mailstream.domain import senders as sender
from mailstream.domain.errors import WrongRules
from mailstream.domain.request import Address, EmailRequest
from mailstream.domain.validation import Violation, validate
from mailstream.settings import Settings
from mailstream.templates.catalog import Templates
from streams.triggers.event import ANY_TYPE
from streams.triggers.rule_schema import CancelRule, MailRule, Rule, RuleFile, TopicRule

_NO_FORM = TopicRule()


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

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics that the rules read, in their order, without prefix."""
        return tuple(dict.fromkeys(rule.topic for rule in self.rules))

    def full_name(self, topic: str, prefix: str) -> str:
        """The name of the topic on this cluster."""
        return topic if self.form(topic).exact_name else prefix + topic

    def form(self, topic: str) -> TopicRule:
        """What the file says of this topic: how its plain JSON is read, and where it is begun."""
        return self._topics.get(topic, _NO_FORM)

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
        raise WrongRules(
            f"{file}{line}: not valid YAML: {getattr(error, 'problem', None) or 'cannot be read'}"
        ) from None
    except RecursionError:
        raise WrongRules(f"{file}: nested too deep") from None
    try:
        checked = RuleFile.model_validate(found)
    except ValidationError as error:
        raise WrongRules("\n".join(_mistakes(error, tree, file))) from None
    return Rules(checked.rules, checked.topics)


def require_usable(rules: Rules, templates: Templates, settings: Settings) -> None:
    """Raise WrongRules for a template that is not there, or a sender that the settings do not allow."""
    senders = sender.of_account(settings.sender, settings.senders_allowed)
    wrong = []
    for rule in rules.rules:
        if isinstance(rule, CancelRule):
            continue
        for template in (rule.template, *([rule.digest.template] if rule.digest else ())):
            if not templates.has(template):
                wrong.append(f"rule {rule.name}: there is no template {template} in the templates folder")
        wrong += [f"rule {rule.name}: {mistake.pointer}: {mistake.detail}" for mistake in _of_every_mail(rule)]
        if rule.from_ is not None and not sender.is_allowed(rule.from_, senders):
            wrong.append(f"rule {rule.name}: its from is neither MAILSTREAM_SENDER nor in MAILSTREAM_SENDERS_ALLOWED")
    if wrong:
        raise WrongRules("\n".join(wrong))


def _of_every_mail(rule: MailRule) -> list[Violation]:
    """What would be wrong with each mail of the rule, for any event."""
    mail = EmailRequest(
        to=Address("someone@example.com"),
        subject="-",
        text="-",
        from_=Address(rule.from_, rule.from_name) if rule.from_ else None,
        reply_to=Address(rule.reply_to) if rule.reply_to else None,
        tags=tuple(rule.tags),
    )
    return validate(mail, now=datetime.max.replace(tzinfo=UTC))


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
