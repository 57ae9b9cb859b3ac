"""``mailstream triggers``: look at the rules for domain events, and try them; nothing is sent."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli._options import Json, print_json, utc
from mailstream.clock import moment
from mailstream.domain.record import Record
from mailstream.domain.status import masked
from mailstream.settings import Settings, load
from mailstream.templates.render_process import RenderProcess

if TYPE_CHECKING:
    from streams.triggers.decide import Decision, Ruling
    from streams.triggers.event import Received
    from streams.triggers.rules import Rules

group = typer.Typer(no_args_is_help=True, help="Rules that turn domain events into mail; nothing here sends.")

RulesFile = Annotated[Path | None, typer.Option("--rules", help="rules file; MAILSTREAM_TRIGGERS_FILE by default")]
Folder = Annotated[Path | None, typer.Option("--templates", help="folder; MAILSTREAM_TEMPLATES_DIR by default")]


@group.command()
def check(rules: RulesFile = None, templates: Folder = None, as_json: Json = False) -> None:
    """Check rules and templates as a worker does at its start; exit 1 with one line per mistake."""
    found, _ = _loaded(rules, templates)
    rows = [
        {"name": rule.name, "topic": rule.topic, "types": rule.type, "outcome": _outcome(rule)} for rule in found.rules
    ]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        typer.echo(f"{row['name']}: {row['topic']} {', '.join(row['types'])} → {row['outcome']}")
    typer.echo(f"{len(found.rules)} rules on {len(found.topics)} topics are fine.", err=True)


@group.command("test")
def try_out(
    event: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="file with the event as JSON")],
    topic: Annotated[str | None, typer.Option(help="topic it would be in; needed when the rules name several")] = None,
    header: Annotated[list[str] | None, typer.Option(help="record header, NAME=VALUE; ce_… for binary mode")] = None,
    now: Annotated[datetime | None, typer.Option(help="pretend that it is this time (UTC)", callback=utc)] = None,
    rules: RulesFile = None,
    templates: Folder = None,
    as_json: Json = False,
) -> None:
    """Show what would happen to an event: the mails it asks for, or why there is none. Sends nothing."""
    from streams.triggers.event import as_event

    found, settings = _loaded(rules, templates)
    if topic is None and len(found.topics) > 1:
        raise typer.BadParameter(f"name one with --topic: {', '.join(found.topics)}")
    at = now or moment(time.time())
    name, headers = topic or found.topics[0], dict(_header(text) for text in header or ())
    record = Record(name, 0, 0, int(at.timestamp() * 1000), None, event.read_bytes() or None, headers)
    received = as_event(record, name)
    ruling = asyncio.run(_decided(received, found, settings, at))
    data, lines = _told(ruling)
    if as_json:
        print_json(data)
    else:
        typer.echo("\n".join(lines))
    raise typer.Exit(1 if ruling.failures else 0)


async def _decided(received: "Received", rules: "Rules", settings: Settings, now: datetime) -> "Ruling":
    """As a worker decides, within the same limits."""
    from streams.triggers import decide

    renderer = RenderProcess(settings.templates_dir)
    try:
        max_age = timedelta(seconds=settings.max_event_age)
        return await decide.decide(received, rules, renderer.render, now=now, max_age=max_age)
    finally:
        await renderer.close()


def _told(ruling: "Ruling") -> tuple[dict[str, Any], list[str]]:
    """A ruling for programs and for people. Addresses are masked: the output may land in a log."""
    from streams.core.trigger_result import TriggerResult

    match ruling.result:
        case TriggerResult.UNREADABLE:
            (failure,) = ruling.failures
            return {"result": "dead letter", **asdict(failure)}, [f"dead letter {failure.reason}: {failure.detail}"]
        case TriggerResult.TOO_OLD:
            return {"result": "too old"}, ["too old: older than MAILSTREAM_MAX_EVENT_AGE, would be counted only"]
        case TriggerResult.UNCONCERNED:
            return {"result": "no rule"}, ["no rule reads this type of event"]
    data = {"result": "rules apply", "rules": [_data_of(decision) for decision in ruling.decisions]}
    return data, [f"{each.rule}: {line}" for each in ruling.decisions for line in _lines_of(each)]


def _data_of(decision: "Decision") -> dict[str, Any]:
    return {
        "rule": decision.rule,
        "why_not": decision.why_not,
        "mails": [
            {"id": mail.id, "to": masked(mail.to.email), "subject": mail.subject, "lane": mail.lane,
             "send_at": mail.send_at, "expires_at": mail.expires_at, "cap": mail.cap, "digest": mail.digest,
             "text": mail.text, "html": mail.html}
            for mail in decision.requests
        ],
        "failures": decision.failures,
        "cancels": [control.id for control in decision.controls],
    }  # fmt: skip


def _lines_of(decision: "Decision") -> Iterator[str]:
    if decision.why_not:
        yield f"does not apply, {decision.why_not}"
    for failure in decision.failures:
        yield f"dead letter {failure.reason}: {failure.detail}"
    for control in decision.controls:
        yield f"cancels {control.id}"
    for mail in decision.requests:
        due = f", at {mail.send_at}" if mail.send_at else ""
        yield f"{mail.id} to {masked(mail.to.email)}{due}: {mail.subject}"
    for mail in decision.requests[:1]:  # cap and digest are the same for each mail of a rule
        if mail.cap:
            yield f"suppressed if {mail.cap.count} of {mail.cap.key} were sent in the {mail.cap.seconds} s before"
        if mail.digest:
            yield f"waits {mail.digest.seconds} s for others of {mail.digest.key}, which would become one {mail.digest.template}"


def _loaded(rules: Path | None, templates: Path | None) -> "tuple[Rules, Settings]":
    from streams.triggers import files

    given = {"triggers_file": rules and str(rules), "templates_dir": templates and str(templates)}
    settings = load(**{name: value for name, value in given.items() if value is not None})
    found = files.load(settings)
    if found is None:
        raise typer.BadParameter("name the rules with --rules or MAILSTREAM_TRIGGERS_FILE")
    return found, settings


def _outcome(rule: Any) -> str:
    return f"cancels {rule.cancels}" if hasattr(rule, "cancels") else str(rule.template)


def _header(text: str) -> tuple[str, bytes]:
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter("a header is written NAME=VALUE")
    return name, value.encode()
