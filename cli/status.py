"""``mailstream status``: where one email stands, and how it came there."""

import asyncio
from typing import Annotated

import typer

from cli._caller import ApiKey, Url, api_at, end_of, heading, lines_of
from cli._options import Json, print_json


def status(
    email_id: Annotated[str, typer.Argument(metavar="ID", help="of the email: em_…")],
    watch: Annotated[bool, typer.Option("--watch", help="go on until it is final")] = False,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """The timeline of one email. Exit 1 when there is none with this id."""
    asyncio.run(_status(email_id, url, api_key, watch=watch, as_json=as_json))


async def _status(email_id: str, url: str | None, api_key: str | None, *, watch: bool, as_json: bool) -> None:
    async with api_at(url, api_key) as api:
        if watch:
            await end_of(api, email_id, as_json=as_json)
            return
        email = await api.email(email_id)
    if as_json:
        print_json(email)
        return
    typer.echo(heading(email), err=True)
    for line in lines_of(email["timeline"]):
        typer.echo(line)
