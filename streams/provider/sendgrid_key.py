"""Follow the file that holds SendGrid's key: a new one counts from the next call on, without a restart."""

from collections.abc import Callable
from pathlib import Path

import structlog
from pydantic import SecretStr

from mailstream import settings as settings_of
from mailstream.follow_file import follow_file
from mailstream.settings import PREFIX, Settings

log = structlog.get_logger(__name__)

NAME = f"{PREFIX}SENDGRID_API_KEY"


async def follow(settings: Settings, use_key: Callable[[SecretStr], None]) -> None:
    """Look at the file for ever; without MAILSTREAM_SECRETS_DIR there is none. A key that cannot be read changes nothing."""
    if settings.secrets_dir is None:
        return
    known = settings.sendgrid_api_key

    async def use(key: SecretStr | None) -> None:
        nonlocal known
        if key is None or key == known:
            return
        known = key
        use_key(key)
        log.info("a new SendGrid key is used")

    files = [Path(settings.secrets_dir, name) for name in (NAME, NAME.lower())]  # both spellings are read
    await follow_file(files, lambda: settings_of.load().sendgrid_api_key, use, what="SendGrid's key")
