"""What several verbs have in common: options, and how data is printed."""

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import typer

from mailstream.domain.email_id import hash_in
from mailstream.domain.errors import BadEmailId

Json = Annotated[bool, typer.Option("--json", help="print data as JSON")]


def print_json(data: Any) -> None:
    """One value on one line of stdout."""
    typer.echo(msgspec.json.encode(data).decode())


def utc(given: datetime | None) -> datetime | None:
    """A moment of the command line: UTC unless it says otherwise."""
    return given if given is None or given.tzinfo else given.replace(tzinfo=UTC)


def email_ids(given: list[str] | None) -> list[str] | None:
    """The same ids. Wrong use when one of them does not look like an id."""
    try:
        for email_id in given or ():
            hash_in(email_id)
    except BadEmailId as error:
        raise typer.BadParameter(str(error)) from None
    return given


def _email_id(given: str) -> str:
    email_ids([given])
    return given


EmailId = Annotated[str, typer.Argument(metavar="ID", help="email id, em_…", callback=_email_id)]
