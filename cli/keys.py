"""``mailstream keys``: the callers of the API."""

from pathlib import Path
from typing import Annotated

import typer

from cli._options import Json, print_json
from mailstream.domain.errors import WrongSettings
from mailstream.settings import load

group = typer.Typer(no_args_is_help=True, help="The callers of the API: who they are and what they may do.")

File = Annotated[Path | None, typer.Option(help="Key file; else MAILSTREAM_API_KEYS_FILE.")]


@group.command()
def create(
    name: Annotated[str, typer.Option(help="For people, logs and timelines.")],
    tenant: Annotated[str, typer.Option(help="Whose emails the key sees.")],
    scope: Annotated[list[str], typer.Option(help="send, read, operate or admin; may be repeated.")],
    sender: Annotated[
        list[str] | None, typer.Option(help="Address or @domain that it may send from; may be repeated.")
    ] = None,
    rate: Annotated[str | None, typer.Option(help="Requests, as in 100/second.")] = None,
    quota: Annotated[int | None, typer.Option(help="Recipients a day.")] = None,
    file: File = None,
    as_json: Json = False,
) -> None:
    """Make a key, add it to the file, and print it: it is shown this once and never kept."""
    from pydantic import ValidationError

    from api import keys

    path, secret = _path(file), keys.new_secret()
    try:
        key = keys.Key(
            name=name,
            sha256=keys.hash_of(secret),
            tenant=tenant,
            scopes=frozenset(keys.Scope(each) for each in scope),
            senders=tuple(sender or ()),
            rate=rate,
            quota=quota,
        )
    except (ValidationError, ValueError) as error:
        raise WrongSettings(f"{keys.told(error)} Nothing was made.") from None
    keys.add_to_file(path, key)
    typer.echo(f"Added to {path}. APIs that run take it within 5 s. This is shown once:", err=True)
    if as_json:
        print_json({"name": name, "tenant": tenant, "key": secret})
    else:
        typer.echo(secret)


@group.command("list")
def list_(
    file: File = None,
    as_json: Json = False,
) -> None:
    """Show the callers: names, tenants, scopes. Keys are not kept, so they cannot be shown."""
    from api import keys

    found = keys.read_file(_path(file))
    if as_json:
        print_json([key.model_dump(mode="json", exclude={"sha256"}) for key in found])
        return
    for key in found:
        typer.echo(f"{key.name}\t{key.tenant}\t{','.join(sorted(key.scopes))}\t{','.join(key.senders) or '-'}")


def _path(given: Path | None) -> Path:
    path = given or load().api_keys_file
    if not path:
        raise WrongSettings("Name the key file: --file, or MAILSTREAM_API_KEYS_FILE. Nothing was made.")
    return Path(path)
