"""``mailstream held``: emails whose outcome is unknown, and an operator's word about them, with a reason and on record."""

import asyncio
import time
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from cli._options import EmailId, Json, print_json
from cli.progress import reading
from mailstream.domain import codec, topics
from mailstream.domain.email_id import partition_in
from mailstream.domain.request import Control, ControlKind
from mailstream.domain.status import EmailStatus, Status
from mailstream.domain.topics import Naming
from mailstream.settings import Settings, load

if TYPE_CHECKING:
    from streams.triggers.records import Outgoing

group = typer.Typer(no_args_is_help=True, help="Emails whose outcome is unknown, and an operator's word about them.")

#: How long the owner of the partition may take to decide, before the command says that it will come later.
DECIDED_SECONDS = 10.0
LOOK_SECONDS = 0.2


class As(StrEnum):
    """What an operator may say."""

    SENT = "SENT"  #: the provider has it: there is evidence elsewhere
    UNCONFIRMED = "UNCONFIRMED"  #: it will never be known; it is not sent again
    RESEND = "RESEND"  #: send it once more, marked as a possible duplicate


@group.command("list")
def list_held(as_json: Json = False) -> None:
    """Show what is HELD, oldest first, from the topic alone."""
    from mailstream.kafka.statuses import statuses

    settings = load()
    with reading(settings, "reading") as reader:
        held = [status for status in statuses(reader, settings) if status.status is Status.HELD]
    held.sort(key=lambda status: status.held_at or status.updated_at)
    if as_json:
        print_json(held)
        return
    for status in held:
        since = status.held_at or status.updated_at
        why = next((fact.detail for fact in reversed(status.timeline) if fact.status is Status.HELD), None)
        typer.echo(f"{since:%Y-%m-%d %H:%M:%S}  {status.id}  attempt {status.attempt}  {why or ''}")
    typer.echo(f"{len(held)} emails are HELD.", err=True)


@group.command()
def resolve(
    email_id: EmailId,
    as_: Annotated[As, typer.Option("--as", help="what is said of it")],
    reason: Annotated[str, typer.Option(help="why; goes on the timeline", min=1)],
    by: Annotated[str, typer.Option(help="who says so; goes on the timeline", envvar="USER")],
    is_yes: Annotated[
        bool, typer.Option("--yes", help="publish it; without, only show what would be published")
    ] = False,
) -> None:
    """End HELD by an operator's word. The owner of the partition decides by the log; evidence that came first wins."""
    control = Control(kind=ControlKind.RESOLVE, id=email_id, by=by, reason=reason, to=as_.value)
    if not is_yes:
        typer.echo(codec.encode(control).decode())
        typer.echo("Nothing was published. Say --yes to publish this.", err=True)
        return
    said = _publish_and_wait(load(), control)
    typer.echo(said)
    if said.startswith("refused"):
        raise typer.Exit(1)


def _publish_and_wait(settings: Settings, control: Control) -> str:
    """Append the word, then follow the statuses of its partition until it is decided."""
    from mailstream.kafka.reader import Reader
    from streams.triggers.records import control_record

    name, partition = Naming(settings.topic_prefix).of(topics.STATUS), partition_in(control.id, settings.partitions)
    deadline = time.monotonic() + DECIDED_SECONDS
    with Reader(settings) as reader:
        span = reader.span(name, partition)
        offset = asyncio.run(_append(settings, control_record(control, settings.partitions)))
        while time.monotonic() < deadline:
            span = replace(reader.span(name, partition), start=span.end)
            for record in reader.records(span):
                status = codec.decoded(codec.decode_status, record.value())
                if status is not None and status.id == control.id and status.control >= offset:
                    return _told(status, offset)
            time.sleep(LOOK_SECONDS)
    return f"not decided within {DECIDED_SECONDS:.0f} s: is a worker running? It decides when it reads the record"


async def _append(settings: Settings, record: "Outgoing") -> int:
    from mailstream.kafka.producer import Publisher
    from streams.audit.redrive import published

    (place,) = [place async for place in published(Publisher(settings), settings, [record])]
    return place.offset


def _told(status: EmailStatus, offset: int) -> str:
    fact = next((fact for fact in status.timeline if fact.control == offset), None)
    if fact is not None and fact.what == "resolve_refused":
        return f"refused: {fact.detail}; it is {status.status}"
    return f"decided: it is {status.status}"
