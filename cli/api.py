"""``mailstream api``: one API in the foreground."""

from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import typer


def api() -> NoReturn:
    """Take requests over HTTP and answer where emails stand; SIGTERM drains and exits 0."""
    from api import server

    raise SystemExit(server.run())


def add_to(app: "typer.Typer") -> None:
    """Add the verb to the root."""
    app.command()(api)
