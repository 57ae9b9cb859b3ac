"""``mailstream api``: one API in the foreground."""

from typing import NoReturn


def api() -> NoReturn:
    """Take requests over HTTP and answer where emails stand; SIGTERM drains and exits 0."""
    from api import server

    raise SystemExit(server.run())
