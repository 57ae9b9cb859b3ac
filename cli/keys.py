"""``mailstream keys``: the callers of the API."""

from pathlib import Path
from typing import Annotated

import typer

group = typer.Typer(no_args_is_help=True, help="The callers of the API: who they are and what they may do.")


@group.callback()
def _keys() -> None:
    """The callers of the API: who they are and what they may do."""


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
    file: Annotated[Path | None, typer.Option(help="Key file; else MAILSTREAM_API_KEYS_FILE.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The answer as JSON.")] = False,
) -> None:
    """Make a key, add it to the file, and print it: it is shown this once and never kept."""
    import json
    import sys

    from pydantic import ValidationError

    from api import keys
    from mailstream import settings
    from mailstream.domain.errors import WrongSettings

    path = file or (Path(named) if (named := settings.load().api_keys_file) else None)
    if path is None:
        raise WrongSettings("Name the key file: --file, or MAILSTREAM_API_KEYS_FILE. Nothing was made.")
    secret = keys.new_secret()
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
    print(f"Added to {path}. APIs that run take it within 5 s. This is shown once:", file=sys.stderr)
    print(json.dumps({"name": name, "tenant": tenant, "key": secret}) if as_json else secret)


@group.command("list")
def list_(
    file: Annotated[Path | None, typer.Option(help="Key file; else MAILSTREAM_API_KEYS_FILE.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The answer as JSON.")] = False,
) -> None:
    """Show the callers: names, tenants, scopes. Keys are not kept, so they cannot be shown."""
    import json

    from api import keys
    from mailstream import settings
    from mailstream.domain.errors import WrongSettings

    path = file or (Path(named) if (named := settings.load().api_keys_file) else None)
    if path is None:
        raise WrongSettings("Name the key file: --file, or MAILSTREAM_API_KEYS_FILE.")
    found = keys.read_file(path)
    if as_json:
        print(json.dumps([key.model_dump(mode="json", exclude={"sha256"}) for key in found]))
        return
    for key in found:
        print(f"{key.name}\t{key.tenant}\t{','.join(sorted(key.scopes))}\t{','.join(key.senders) or '-'}")
