"""``mailstream dead-letters``: records that could not be taken, and why. ``retry`` is ``mailstream redrive dead-letters``."""

from contextlib import closing
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli._options import Json, print_json, utc
from cli.progress import reading
from mailstream.domain import codec
from mailstream.domain.dead_letter import Reason
from mailstream.settings import load

if TYPE_CHECKING:
    from mailstream.kafka.dead_letter_reader import Filter, Letter

group = typer.Typer(
    no_args_is_help=True, help="Records that could not be taken; only `retry --yes` asks for them again."
)

Reasons = Annotated[list[Reason] | None, typer.Option("--reason", help="only for this reason; may be repeated")]
Origins = Annotated[list[str] | None, typer.Option("--topic", help="only those that came from this topic")]
Since = Annotated[datetime | None, typer.Option(help="rejected at or after this moment (UTC)", callback=utc)]
Until = Annotated[datetime | None, typer.Option(help="rejected before this moment (UTC)", callback=utc)]


@group.command("list")
def list_(
    reason: Reasons = None,
    topic: Origins = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, help="at most so many")] = 1000,
    as_json: Json = False,
) -> None:
    """List dead letters: place, time, reason, where they came from. Neither keys nor values: those are addresses."""
    from mailstream.kafka import dead_letter_reader

    settings, count = load(), 0
    wanted = chosen(reason, topic, since, until)
    with (
        reading(settings, "reading dead letters") as reader,
        closing(dead_letter_reader.letters(reader, settings, wanted)) as found,
    ):
        for letter in islice(found, limit):
            if as_json:
                print_json(about(letter))
            else:
                typer.echo(line_of(letter))
            count += 1
    typer.echo(f"{count:,} dead letters.", err=True)


@group.command()
def show(
    place: Annotated[str, typer.Argument(metavar="PARTITION/OFFSET", help="as the list shows it")],
    as_json: Json = False,
) -> None:
    """Show one dead letter whole: its headers and its bytes, addresses included."""
    from mailstream.kafka import dead_letter_reader

    settings = load()
    with reading(settings, "reading dead letters") as reader:
        letter = next(iter(list(dead_letter_reader.letters(reader, settings, chosen(places=[place])))), None)
    if letter is None:
        typer.echo("No dead letter is there (any more).", err=True)
        raise typer.Exit(1)
    data = about(letter) | {
        "key": codec.readable(letter.dead_letter.record.key),
        "headers": [[name, codec.readable(value)] for name, value in letter.dead_letter.record.headers.items()],
        "is_cut": letter.is_cut,
        "value": codec.readable(letter.dead_letter.record.value),
    }
    if as_json:
        print_json(data)
        return
    typer.echo(line_of(letter))
    for name, value in data["headers"]:
        typer.echo(f"{name}: {value}")
    typer.echo(f"key: {data['key']}\n\n{data['value']}")


def chosen(
    reason: list[Reason] | None = None,
    topic: list[str] | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    places: list[str] | None = None,
) -> "Filter":
    """The filter that options name."""
    from mailstream.kafka.dead_letter_reader import Filter

    named = frozenset(_place(place) for place in places or ())
    return Filter(frozenset(reason or ()), frozenset(topic or ()), named, since, until)


def _place(text: str) -> tuple[int, int]:
    partition, slash, offset = text.partition("/")
    if not (slash and partition.isdecimal() and offset.isdecimal()):
        raise typer.BadParameter(f"{text}: a place is written PARTITION/OFFSET, as in 3/17")
    return int(partition), int(offset)


def about(letter: "Letter") -> dict[str, Any]:
    """What may be shown: no address, no body."""
    found = letter.dead_letter
    record = found.record
    origin = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
    return {"place": letter.place, "at": letter.at, "reason": found.reason, "detail": found.detail, "from": origin}


def line_of(letter: "Letter") -> str:
    """The same for people."""
    found = letter.dead_letter
    origin = f"{found.record.topic} {found.record.partition}/{found.record.offset}"
    return f"{letter.place:>10}  {letter.at:%Y-%m-%d %H:%M:%S}  {found.reason:18}  {origin}  {found.detail}"
