"""``mailstream topics``: are the topics what emails are made for; create what is missing, change nothing."""

from typing import TYPE_CHECKING

import typer

from cli._options import Json, print_json
from mailstream.domain.topics import SAFE_REPLICATION
from mailstream.settings import Settings, load

if TYPE_CHECKING:
    from mailstream.kafka.admin import Finding

group = typer.Typer(no_args_is_help=True, help="The topics on the broker: show them, create what is missing.")


@group.command()
def plan(as_json: Json = False) -> None:
    """Show what is there, what is missing and what differs; exit 1 when something differs. Changes nothing."""
    from mailstream.kafka import admin as check
    from mailstream.kafka.config import admin

    settings = load()
    _tell(check.inspect(admin(settings), settings), settings, "missing", as_json)


@group.command()
def apply(as_json: Json = False) -> None:
    """Create what is missing; exit 1 when something differs. Never changes a topic that is there."""
    from mailstream.kafka import admin as check
    from mailstream.kafka.config import admin

    settings = load()
    _tell(check.apply(admin(settings), settings), settings, "created", as_json)


def _tell(findings: "list[Finding]", settings: Settings, missing: str, as_json: bool) -> None:
    """Print one line per topic; ``missing`` is the word for one that was not there. Exits 1 when one differs."""
    rows = [
        {
            "topic": finding.name,
            "policy": finding.topic.cleanup_policy,
            "state": "differs" if finding.difference else missing if finding.is_missing else "fine",
            "difference": finding.difference,
        }
        for finding in findings
    ]
    if as_json:
        data = {"partitions": settings.partitions, "replication_factor": settings.replication_factor, "topics": rows}
        print_json(data)
    else:
        width = max(len(finding.name) for finding in findings)
        for row in rows:
            typer.echo(f"{row['topic']:<{width}}  {row['policy']:<7}  {row['state']}")
    if any(finding.is_missing for finding in findings) and settings.replication_factor < SAFE_REPLICATION:
        typer.secho(
            f"WARNING: MAILSTREAM_REPLICATION_FACTOR is {settings.replication_factor}. With fewer than "
            f"{SAFE_REPLICATION} replicas a lost machine loses mail. Fine on one machine, not in production.",
            fg="yellow",
            bold=True,
            err=True,
        )
    if missing == "missing" and any(finding.is_missing for finding in findings):
        typer.echo("`mailstream topics apply` creates what is missing.", err=True)
    differing = [finding for finding in findings if finding.difference]
    for finding in differing:
        typer.echo(f"{finding.name} {finding.difference}.", err=True)
    if differing:
        typer.echo("Nothing was changed on these topics.", err=True)
        raise typer.Exit(1)
