"""Follow the key file: a change counts within seconds, a file that cannot be read changes nothing (security.md S4)."""

import asyncio
from pathlib import Path

import structlog

from api import keys
from api.keys import Keys
from mailstream.errors import WrongSettings
from mailstream.file_state import state_of
from mailstream.settings import Settings

_log = structlog.get_logger(__name__)
LOOK_SECONDS = 1.0


async def follow(settings: Settings, callers: Keys) -> None:
    """Read the file again whenever it changes. Runs until it is cancelled."""
    if settings.api_keys_file is None:
        return
    path = Path(settings.api_keys_file)
    seen = state_of(path)
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        now = await asyncio.to_thread(state_of, path)
        if now == seen:
            continue
        seen = now
        try:
            found = await asyncio.to_thread(keys.load, settings)
        except WrongSettings as error:  # the keys as they were stay in force
            _log.error("keys.unreadable", reason=str(error))
        else:
            callers.replace(found)
            _log.info("keys.read", keys=len(found))
