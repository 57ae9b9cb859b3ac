"""``mailstream worker``: one worker in the foreground."""

from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import typer


def worker() -> NoReturn:
    """Take requests, pace, claim and send; SIGTERM drains and exits 0."""
    from streams import worker as process

    raise SystemExit(process.run())


def add_to(app: "typer.Typer") -> None:
    """Add the verb to the root."""
    app.command()(worker)
