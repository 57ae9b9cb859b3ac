"""``mailstream api``: one API in the foreground."""

import typer


def add_to(app: typer.Typer) -> None:
    """Add the verb to the root."""

    @app.command()
    def api() -> None:
        """Take requests over HTTP and answer where emails stand; SIGTERM drains and exits 0."""
        from api import server

        raise SystemExit(server.run())
