"""``mailstream triggers``: look at the rules for domain events, and try them; nothing is sent."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from mailstream.clock import moment
from mailstream.errors import TemplateError
from mailstream.record import Record
from mailstream.settings import load
from mailstream.status import masked
from mailstream.templates import Rendered, Templates

if TYPE_CHECKING:
    from streams.core.trigger import Decision, Ruling, Wish

group = typer.Typer(no_args_is_help=True, help="Rules that turn domain events into mail; nothing here sends.")

Json = Annotated[bool, typer.Option("--json", help="print data as JSON")]
RulesFile = Annotated[Path | None, typer.Option("--rules", help="rules file; MAILSTREAM_TRIGGERS_FILE by default")]
Folder = Annotated[Path | None, typer.Option("--templates", help="folder; MAILSTREAM_TEMPLATES_DIR by default")]


@group.command()
def check(rules: RulesFile = None, templates: Folder = None, as_json: Json = False) -> None:
    """Check rules and templates as a worker does at its start; exit 1 with one line per mistake."""
    found, _, _ = _loaded(rules, templates)
    if as_json:
        typer.echo(msgspec.json.encode([_rule(rule) for rule in found.rules]).decode())
        return
    for rule in found.rules:
        typer.echo(f"{rule.name}: {rule.topic} {', '.join(rule.type)} → {_outcome(rule)}")
    typer.echo(f"{len(found.rules)} rules on {len(found.topics)} topics are fine.", err=True)


@group.command("test")
def try_out(
    event: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="file with the event as JSON")],
    topic: Annotated[str | None, typer.Option(help="topic it would be in; needed when the rules name several")] = None,
    header: Annotated[list[str] | None, typer.Option(help="record header, NAME=VALUE; ce_… for binary mode")] = None,
    now: Annotated[datetime | None, typer.Option(help="pretend that it is this time (UTC)")] = None,
    rules: RulesFile = None,
    templates: Folder = None,
    as_json: Json = False,
) -> None:
    """Show what would happen to an event: the mails it asks for, or why there is none. Sends nothing."""
    from streams.core import trigger
    from streams.core.trigger_event import as_event

    found, loaded, max_age_seconds = _loaded(rules, templates)
    if topic is None and len(found.topics) > 1:
        raise typer.BadParameter(f"name one with --topic: {', '.join(found.topics)}")
    at = now.replace(tzinfo=UTC) if now else moment(time.time())
    name, headers = topic or found.topics[0], dict(_header(text) for text in header or ())
    record = Record(name, 0, 0, int(at.timestamp() * 1000), None, event.read_bytes() or None, headers)
    judged = trigger.judge(as_event(record, name), found, now=at, max_age=timedelta(seconds=max_age_seconds))
    ruling = trigger.fulfil(judged, lambda wish: _rendered(wish, loaded))
    told = _told(ruling)
    typer.echo(msgspec.json.encode(told.data).decode() if as_json else "\n".join(told.lines))
    raise typer.Exit(1 if told.is_failure else 0)


@dataclass(frozen=True, slots=True)
class _Told:
    data: dict[str, Any]
    lines: list[str]
    is_failure: bool = False


def _told(ruling: "Ruling") -> _Told:
    """A ruling for people and for programs. Addresses are masked: the output may land in a log."""
    from streams.core.trigger import Concerned, TooOld, Unreadable

    match ruling:
        case Unreadable(failure):
            line = f"dead letter {failure.reason}: {failure.detail}"
            return _Told({"result": "dead letter", "reason": failure.reason, "detail": failure.detail}, [line], True)
        case TooOld():
            return _Told({"result": "too old"}, ["too old: older than MAILSTREAM_MAX_EVENT_AGE, would be counted only"])
        case Concerned(_, decisions):
            lines, data = [], []
            for decision in decisions:
                mails = [
                    {"id": mail.id, "to": masked(mail.to.email), "subject": mail.subject, "lane": mail.lane,
                     "send_at": mail.send_at, "expires_at": mail.expires_at, "cap": mail.cap, "digest": mail.digest,
                     "text": mail.text, "html": mail.html}
                    for mail in decision.requests
                ]  # fmt: skip
                failures = [{"reason": failure.reason, "detail": failure.detail} for failure in decision.failures]
                data.append(
                    {
                        "rule": decision.rule,
                        "why_not": decision.why_not,
                        "mails": mails,
                        "failures": failures,
                        "cancels": [control.id for control in decision.controls],
                    }
                )
                if decision.why_not:
                    lines.append(f"{decision.rule}: does not apply, {decision.why_not}")
                lines += [
                    f"{decision.rule}: dead letter {failure['reason']}: {failure['detail']}" for failure in failures
                ]
                lines += [f"{decision.rule}: cancels {control.id}" for control in decision.controls]
                for mail in mails:
                    due = f", at {mail['send_at']}" if mail["send_at"] else ""
                    lines.append(f"{decision.rule}: {mail['id']} to {mail['to']}{due}: {mail['subject']}")
                lines += [f"{decision.rule}: {line}" for line in _of_others(decision)]
            is_failure = any(decision.failures for decision in decisions)
            return _Told({"result": "rules apply", "rules": data}, lines, is_failure)
    return _Told({"result": "no rule"}, ["no rule reads this type of event"])


def _of_others(decision: "Decision") -> Iterator[str]:
    """What other mails to the same recipients may change; the same for each mail of a rule."""
    for mail in decision.requests[:1]:
        if mail.cap:
            yield f"suppressed if {mail.cap.count} of {mail.cap.key} were sent in the {mail.cap.seconds} s before"
        if mail.digest:
            yield f"waits {mail.digest.seconds} s for others of {mail.digest.key}, which would become one {mail.digest.template}"


def _rendered(wish: "Wish", templates: Templates) -> Rendered | TemplateError:
    try:
        return templates.render(wish.template, wish.data, locale=wish.locale)
    except TemplateError as error:
        return error


def _loaded(rules: Path | None, templates: Path | None) -> Any:
    from streams import trigger_files

    given = {"triggers_file": rules and str(rules), "templates_dir": templates and str(templates)}
    settings = load(**{name: value for name, value in given.items() if value is not None})
    found = trigger_files.load(settings)
    if found is None:
        raise typer.BadParameter("name the rules with --rules or MAILSTREAM_TRIGGERS_FILE")
    return *found, settings.max_event_age


def _outcome(rule: Any) -> str:
    return f"cancels {rule.cancels}" if hasattr(rule, "cancels") else str(rule.template)


def _rule(rule: Any) -> dict[str, Any]:
    return {"name": rule.name, "topic": rule.topic, "types": rule.type, "outcome": _outcome(rule)}


def _header(text: str) -> tuple[str, bytes]:
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter("a header is written NAME=VALUE")
    return name, value.encode()
