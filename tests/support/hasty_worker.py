"""A worker that commits what it has read, as Faust does by itself: ``python -m tests.support.hasty_worker worker``.

It is the real worker but for that: its offsets run ahead of what is durable. The history checker must find what is lost.
"""

from typing import Any

from cli.main import main
from streams.faust_guards.app import GuardedApp


async def commit_what_was_read(self: GuardedApp, consumer: Any, seconds: float) -> None:
    """Commit up to the newest record of each partition, settled or not."""
    read = {tp: last + 1 for tp in consumer.assignment() if (last := self.acks.last(tp)) is not None}
    if read:
        await consumer._commit(read)


if __name__ == "__main__":
    GuardedApp._commit_heads = commit_what_was_read  # type: ignore[method-assign]
    main()
