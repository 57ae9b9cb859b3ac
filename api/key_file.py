"""Follow the key file: a change counts within seconds, a file that cannot be read changes nothing."""

from pathlib import Path

import structlog

from api import keys
from api.keys import Key, Keys
from mailstream.follow_file import follow_file
from mailstream.settings import Settings

_log = structlog.get_logger(__name__)


async def follow(settings: Settings, callers: Keys) -> None:
    """Read the file again whenever it changes. Runs until it is cancelled."""
    if settings.api_keys_file is None:
        return

    async def use(found: tuple[Key, ...]) -> None:
        callers.replace(found)
        _log.info("keys.read", keys=len(found))

    await follow_file([Path(settings.api_keys_file)], lambda: keys.load(settings), use, what="API keys")
