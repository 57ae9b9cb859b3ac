"""``mailstream worker``: one worker in the foreground."""

from typing import NoReturn


def worker() -> NoReturn:
    """Take requests, pace, claim and send; SIGTERM drains and exits 0."""
    from streams import worker as process

    raise SystemExit(process.run())
