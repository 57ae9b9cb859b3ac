"""``mailstream worker``: one worker in the foreground."""

import typer


def add_to(app: typer.Typer) -> None:
    """Add the verb to the root."""

    @app.command()
    def worker() -> None:
        """Take requests, pace, claim and send; SIGTERM drains and exits 0."""
        from streams import worker as process

        raise SystemExit(process.run())
