"""Follow the file that holds SendGrid's key: a new one counts from the next call on, without a restart (security.md S12)."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog
from pydantic import SecretStr

from mailstream import settings as settings_of
from mailstream.errors import WrongSettings
from mailstream.file_state import FileState, state_of
from mailstream.settings import PREFIX, Settings

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
NAME = f"{PREFIX}SENDGRID_API_KEY"


async def follow(settings: Settings, use_key: Callable[[SecretStr], None]) -> None:
    """Look at the file for ever; without MAILSTREAM_SECRETS_DIR there is none. A key that cannot be read changes nothing."""
    if settings.secrets_dir is None:
        return
    folder, known = Path(settings.secrets_dir), settings.sendgrid_api_key
    seen = _state_in(folder)
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        if (now := await asyncio.to_thread(_state_in, folder)) == seen:
            continue
        seen = now
        try:
            key = (await asyncio.to_thread(settings_of.load)).sendgrid_api_key
        except WrongSettings as error:  # the key as it was stays in use
            log.error("the settings cannot be read again", reason=str(error))
            continue
        if key is None or key == known:
            continue
        known = key
        try:
            use_key(key)
        except WrongSettings as error:
            log.error("the new SendGrid key is not used", reason=str(error))
        else:
            log.info("a new SendGrid key is used")


def _state_in(folder: Path) -> tuple[FileState | None, ...]:
    return tuple(state_of(folder / name) for name in (NAME, NAME.lower()))  # both spellings are read
