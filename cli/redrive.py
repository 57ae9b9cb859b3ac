"""``mailstream redrive``: ask again for failed emails and dead letters. A dry run, unless --yes is given."""

import asyncio
import getpass
import time
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from cli._options import Json, email_ids, print_json, utc
from cli.dead_letters import Origins, Reasons, Since, Until, chosen, line_of
from cli.dead_letters import group as letters_group
from cli.progress import Meter, reading
from mailstream.clock import moment
from mailstream.domain.status import Status
from mailstream.settings import load

if TYPE_CHECKING:
    from streams.audit.redrive import Redrive
    from streams.audit.redrive_plan import NotRedrivable, RedrivePlan
    from streams.triggers.records import Outgoing

group = typer.Typer(
    no_args_is_help=True,
    help="Ask again for failed emails and dead letters: the only command after which one is sent once more.",
)

Why = Annotated[str, typer.Option(help="kept in the header mailstream-redrive-reason of each new record")]
By = Annotated[str | None, typer.Option(help="who asks; the user of this machine by default")]
Yes = Annotated[bool, typer.Option("--yes", help="do it; without it nothing is asked")]
Row = tuple[str, str, "RedrivePlan | NotRedrivable"]


@group.command("dead-letters")
@letters_group.command("retry")  # the same, for those who look for it there
def dead_letters_(
    places: Annotated[list[str] | None, typer.Argument(metavar="[PARTITION/OFFSET]...", help="all that fit")] = None,
    reason: Reasons = None,
    topic: Origins = None,
    since: Since = None,
    until: Until = None,
    why: Why = "",
    by: By = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Ask again for dead letters, by the rules, templates and senders of now. Asked twice, each is sent once.

    A direct request gets a new id that names the old one. A domain event, and a strict batch that is one dead letter,
    get the ids that they always had: what was taken of them is known.
    """
    from mailstream.kafka import dead_letter_reader

    settings, plan = load(), _planner(why, by, yes=yes)
    with reading(settings, "reading dead letters") as reader:
        found = dead_letter_reader.letters(reader, settings, chosen(reason, topic, since, until, places))
        planned = asyncio.run(plan.dead_letters(found, moment(time.time())))
    rows: list[Row] = [(letter.place, line_of(letter), again) for letter, again in planned]
    _finish(rows, yes=yes, as_json=as_json)


@group.command()
def emails(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="these emails", callback=email_ids)] = None,
    status: Annotated[list[Status] | None, typer.Option(help="or all in this status; may be repeated")] = None,
    since: Annotated[
        datetime | None, typer.Option(help="that came to it at or after this moment (UTC)", callback=utc)
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(help="that came to it before this moment (UTC)", callback=utc)
    ] = None,
    why: Why = "",
    by: By = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Ask again for emails that ended and reached no one. Each gets a new id that names the old one.

    UNCONFIRMED emails may have been sent: asking again for one may be a duplicate.
    """
    from mailstream.kafka.statuses import statuses

    if bool(ids) == bool(status):
        raise typer.BadParameter("name either ids or --status")
    settings, plan = load(), _planner(why, by, yes=yes)
    now = moment(time.time())
    rows: list[Row] = []
    with reading(settings, "reading statuses") as reader:
        found = [
            each
            for each in statuses(reader, settings, ids or ())
            if ids or (each.status in (status or ()) and _is_between(each.updated_at, since, until))
        ]
        for each in found:
            line = f"{each.id}  {each.status:11}  {each.updated_at:%Y-%m-%d %H:%M:%S}  {each.to_masked}"
            rows.append((each.id, line, plan.email(each, plan.body(reader, each), now)))
    if missing := set(ids or ()) - {each.id for each in found}:
        typer.echo(f"Not in email.status (any more): {', '.join(sorted(missing))}", err=True)
    _finish(rows, yes=yes, as_json=as_json)


def _is_between(at: datetime, since: datetime | None, until: datetime | None) -> bool:
    return (since is None or at >= since) and (until is None or at < until)


def _planner(why: str, by: str | None, *, yes: bool) -> "Redrive":
    from streams.audit.redrive import Redrive
    from streams.audit.redrive_plan import AuditReason

    if yes and not why.strip():
        raise typer.BadParameter("say why: --why TEXT is kept with each new record")
    return Redrive(load(), AuditReason(by or getpass.getuser(), why))


def _finish(rows: list[Row], *, yes: bool, as_json: bool) -> None:
    """Show what is planned, and do it when that is wanted."""
    from streams.audit.redrive_plan import RedrivePlan

    outgoing: list[Outgoing] = [
        record for _, _, plan_ in rows if isinstance(plan_, RedrivePlan) for record in plan_.outgoing
    ]
    if as_json:
        print_json(
            [
                {"of": name, "no_use": None, "ids": planned.ids}
                if isinstance(planned, RedrivePlan)
                else {"of": name, "no_use": str(planned), "ids": []}
                for name, _, planned in rows
            ]
        )
    else:
        for _, line, planned in rows:
            told = f"→ {', '.join(planned.ids)}" if isinstance(planned, RedrivePlan) else f"no use: {planned}"
            typer.echo(f"{line}\n    {told}")
    hopeless = sum(not isinstance(planned, RedrivePlan) for _, _, planned in rows)
    typer.echo(f"{len(rows):,} found, {hopeless:,} of no use, {len(outgoing):,} records to write.", err=True)
    if not yes:
        typer.echo("Nothing was asked. Add --why TEXT --yes to do it.", err=True)
        return
    with Meter("asking again") as meter:
        meter.planned(len(outgoing))
        asyncio.run(_write(outgoing, meter))
    typer.echo(f"{len(outgoing):,} records are in the log.", err=True)


async def _write(outgoing: "list[Outgoing]", meter: Meter) -> None:
    from mailstream.kafka.producer import Publisher
    from streams.audit.redrive import published

    settings = load()
    async for _ in published(Publisher(settings), settings, outgoing):
        meter.progress(1)
