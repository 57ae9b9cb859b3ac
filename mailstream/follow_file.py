"""Follow files while a process runs: a change counts within seconds, and one that cannot be used changes nothing."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import structlog

from mailstream.domain.errors import MailstreamError

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0

Loaded = TypeVar("Loaded")
#: The name of each file, and what changes when the file does. Mounted secrets are replaced as a whole, so the inode
#: counts too. None: no file.
_States = frozenset[tuple[str, tuple[int, int, int] | None]]


async def follow_file(
    paths: Sequence[Path], load: Callable[[], Loaded], use: Callable[[Loaded], Awaitable[None]], *, what: str
) -> None:
    """Look at files, and at all in folders, for ever. ``what`` they are is for the log.

    After a change ``load`` is called on a thread, and ``use`` with what it gives. The first look loads as well: there may
    have been a change since the start. After a MailstreamError what was in use stays.
    """
    seen: _States | None = None
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        if (now := await asyncio.to_thread(_states_of, paths)) == seen:
            continue
        seen = now
        try:
            await use(await asyncio.to_thread(load))
        except MailstreamError as error:
            log.error("a changed file cannot be used, what was in use stays", what=what, reason=str(error))


def _states_of(paths: Sequence[Path]) -> _States:
    return frozenset((str(file), _state_of(file)) for path in paths for file in (path, *path.rglob("*")))


def _state_of(file: Path) -> tuple[int, int, int] | None:
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
