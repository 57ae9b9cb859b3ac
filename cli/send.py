"""``mailstream send``: one mail through the API."""

import asyncio
from typing import Annotated, Any

import msgspec
import typer

from cli._caller import ApiKey, Url, api_at, end_of, is_success
from cli._options import Json, print_json


def send(
    to: Annotated[str, typer.Option(help="address of the one recipient")],
    subject: Annotated[str | None, typer.Option(help="not needed with a template that has one")] = None,
    text: Annotated[str | None, typer.Option(help="plain text of the mail")] = None,
    html: Annotated[str | None, typer.Option(help="the same as HTML")] = None,
    template: Annotated[str | None, typer.Option(help="name of a template, instead of text and html")] = None,
    data: Annotated[str | None, typer.Option(help="JSON object for the template")] = None,
    name: Annotated[str | None, typer.Option(help="of the recipient")] = None,
    sender: Annotated[str | None, typer.Option("--from", help="the configured sender when left out")] = None,
    lane: Annotated[str | None, typer.Option(help="critical, normal or bulk")] = None,
    reference: Annotated[str | None, typer.Option(help="your own name for it")] = None,
    idempotency_key: Annotated[str | None, typer.Option(help="asking twice with the same one sends once")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="until it is final; exit 1 when it was not sent")] = False,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Ask for one mail. Prints its id once Kafka has it."""
    members: dict[str, Any] = {
        "to": {"email": to, "name": name},
        "from": sender and {"email": sender},
        "subject": subject,
        "text": text,
        "html": html,
        "template": template,
        "data": data and _object(data),
        "lane": lane,
        "reference": reference,
    }
    body = {name: value for name, value in members.items() if value is not None}
    raise typer.Exit(asyncio.run(_send(body, idempotency_key, url, api_key, wait=wait, as_json=as_json)))


async def _send(
    body: dict[str, Any],
    idempotency_key: str | None,
    url: str | None,
    api_key: str | None,
    *,
    wait: bool,
    as_json: bool,
) -> int:
    async with api_at(url, api_key) as api:
        receipt = await api.ask(body, idempotency_key)
        if not wait:
            if as_json:
                print_json(receipt)
            else:
                typer.echo(receipt["id"])
            return 0
        if not as_json:
            typer.echo(receipt["id"])
        return 0 if is_success(await end_of(api, receipt["id"], as_json=as_json)) else 1


def _object(text: str) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(text)
    except msgspec.DecodeError:
        found = None
    if not isinstance(found, dict):
        raise typer.BadParameter("--data needs a JSON object")
    return found
