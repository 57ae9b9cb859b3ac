"""``mailstream webhooks``: tell other services of status changes."""

from urllib.parse import urlsplit

import typer

from mailstream.settings import load

group = typer.Typer(no_args_is_help=True, help="Outgoing webhooks (Standard Webhooks) of status changes.")


@group.command()
def run() -> None:
    """Follow email.status and tell the endpoints of MAILSTREAM_WEBHOOKS_FILE; SIGTERM ends it with 0."""
    from streams.webhooks import process

    raise SystemExit(process.run())


@group.command()
def check() -> None:
    """Check the endpoints and their secrets; exit 1 with one line per mistake. Calls no endpoint."""
    from streams.webhooks import endpoints

    for endpoint, keys in endpoints.load(load()):
        told = ", ".join(sorted(endpoint.statuses))
        host = urlsplit(endpoint.url).hostname  # the rest of an address may be a secret
        typer.echo(f"{endpoint.name}: {host}, tenant {endpoint.tenant}, {len(keys)} secrets, {told}")
