"""``mailstream audit``: what the topics say, without API, worker or provider. Only ``rebuild --yes`` writes."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import msgspec
import typer

from cli._options import EmailId, Json, print_json, utc
from cli.progress import reading
from mailstream.domain import topics
from mailstream.settings import load

if TYPE_CHECKING:
    from mailstream.kafka.reader import Reader
    from streams.audit.report import Report

group = typer.Typer(no_args_is_help=True, help="What the topics say, without API, worker or provider.")

#: Findings that are told in full to people; --json has all that were kept.
MOST_SHOWN = 50


@group.command()
def timeline(email_id: EmailId, as_json: Json = False) -> None:
    """Show one email's life: every record about it, with its place. Exit 1 when there is none."""
    from streams.audit.timeline import timeline as life_of

    settings = load()
    with reading(settings, "reading") as reader:
        entries = life_of(reader, settings, email_id)
    if as_json:
        print_json(entries)
    for entry in () if as_json else entries:
        place = f"{entry.topic} {entry.partition}/{entry.offset}"
        typer.echo(f"{entry.at:%Y-%m-%d %H:%M:%S.%f}  {place:30}  {entry.what}")
    if not entries:
        typer.echo("No record about this email is in the topics (any more).", err=True)
        raise typer.Exit(1)


@group.command()
def export(
    topic: Annotated[list[str] | None, typer.Option(help="email.requested, …; all when left out")] = None,
    since: Annotated[
        datetime | None, typer.Option(help="first moment (UTC) of the broker's clock", callback=utc)
    ] = None,
    until: Annotated[datetime | None, typer.Option(help="moment (UTC) before which to stop", callback=utc)] = None,
    out: Annotated[Path | None, typer.Option(help="file to write; stdout when left out")] = None,
) -> None:
    """Write records as JSON Lines, with addresses and bodies as they stand: keep the file as you keep the topics."""
    from streams.audit.export import export as lines_of

    known = {each.name: each for each in topics.ALL}
    if unknown := [name for name in topic or () if name not in known]:
        raise typer.BadParameter(f"{', '.join(unknown)}: known are {', '.join(known)}", param_hint="--topic")
    wanted = [known[name] for name in topic] if topic else list(topics.ALL)
    settings = load()
    count = 0
    with _opened(out) as file, reading(settings, "exporting") as reader:
        for line in lines_of(reader, settings, wanted, since=since, until=until):
            file.write(line + b"\n")
            count += 1
    typer.echo(f"{count:,} records.", err=True)


@group.command()
def verify(
    settle: Annotated[
        float, typer.Option(min=0, help="seconds; what changed since is not judged. 0 when no worker runs")
    ] = 30.0,
    as_json: Json = False,
) -> None:
    """Prove the guarantees from the topics: nothing lost, nothing doubled, gap kept, statuses true. Exit 1 if not.

    What only waits for a worker is counted, and not broken: the brokers know how far the workers have come.
    The gap is held against SEND_GAP and SEND_BURST as they are set here.
    """
    from streams.audit.verify import verify as judged

    settings = load()
    with reading(settings, "verifying") as reader:
        report = judged(reader, settings, settle_seconds=settle)
    if as_json:
        print_json({"holds": report.holds, **msgspec.to_builtins(report)})
    else:
        typer.echo("\n".join(_lines(report)))
    raise typer.Exit(0 if report.holds else 1)


@group.command()
def rebuild(
    yes: Annotated[bool, typer.Option("--yes", help="do it; without it nothing is written")] = False,
) -> None:
    """Make email.status anew where its records are gone, from the topics that decide. Stop all workers first.

    Only partitions whose statuses are lost are touched: those with which a worker refuses to start.
    """
    from mailstream.clock import SystemClock
    from mailstream.kafka.kafka import Kafka
    from streams.audit.rebuild import Rebuild

    settings = load()

    async def look(reader: "Reader") -> None:
        work = Rebuild(Kafka(settings), reader, SystemClock())
        for partition, why in (lost := work.lost()).items():
            typer.echo(f"email.status/{partition} {why}")
        if not lost:
            typer.echo("No statuses are lost.")
        elif not yes:
            typer.echo("Nothing was changed. Stop all workers and add --yes to make these statuses anew.", err=True)
        else:
            async for done, count in work.run(lost):
                typer.echo(
                    f"email.status/{done.number}: {count:,} statuses written, {done.forgotten:,} requests left out"
                )
            typer.echo("Workers may be started.", err=True)

    with reading(settings, "rebuilding") as reader:
        asyncio.run(look(reader))


def _lines(report: "Report") -> list[str]:
    gap = "–" if report.smallest_gap is None else f"{report.smallest_gap:.6f} s"
    lines = [
        f"{report.emails:,} emails in {sum(report.records.values()):,} records, read in {report.seconds:.1f} s",
        "  ".join(f"{status} {count:,}" for status, count in sorted(report.statuses.items())) or "no status published",
        f"accepted calls {report.accepted:,}, marked as possible duplicates {report.marked:,}, smallest gap {gap}",
        _waiting(report),
        f"Not judged: {report.unsettled:,} changed just now, {report.not_judged:,} began before what the topics keep.",
    ]
    if not report.offsets_known and report.records:
        lines.append(
            "The brokers do not know how far the workers have come (none ever ran here, or the group was forgotten): "
            "what waits was told by the order of the requests alone."
        )
    lines += [f"{finding.kind} {finding.about}: {finding.what}" for finding in report.findings[:MOST_SHOWN]]
    if report.holds:
        return [*lines, "Every promise was kept."]
    counts = ", ".join(f"{kind} {count:,}" for kind, count in sorted(report.found.items()))
    return [*lines, f"Broken promises: {counts}. `mailstream audit timeline ID` shows every record about an email."]


def _waiting(report: "Report") -> str:
    """What is not broken, and needs a worker: ``18 events, 3 requests, 1 control wait for a worker.``"""
    kinds = (("events", "event"), ("requests", "request"), ("controls", "control"), ("batches", "batch"))
    counts = [
        (report.waiting[many], f"{report.waiting[many]:,} {one if report.waiting[many] == 1 else many}")
        for many, one in kinds
        if report.waiting[many]
    ]
    waits = ", ".join(told for _, told in counts) or "Nothing"
    lines = [f"{waits} {'wait' if sum(count for count, _ in counts) > 1 else 'waits'} for a worker"]
    if report.behind:
        lines.append(f"{report.behind:,} {'statuses lag' if report.behind > 1 else 'status lags'} until one runs")
    return "; ".join(lines) + "."


@contextmanager
def _opened(path: Path | None) -> Iterator[BinaryIO]:
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with path.open("wb") as file:
        yield file
