"""One fact from the provider's webhook: the records of ``email.events``."""

from datetime import datetime
from typing import Any

from msgspec import Struct, field


class ProviderEvent(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """``email.events`` v1. Key: canonical recipient; partition: of the email id."""

    event: str  #: the provider's word: processed, deferred, delivered, bounce, dropped, open, …
    at: datetime  #: the provider's time
    id: str | None = None  #: the email; None for an orphan
    provider_event_id: str | None = None
    message_id: str | None = None  #: the provider's, up to the first dot
    attempt: int | None = None
    nonce: str | None = None
    is_recipient: bool = True  #: False: about a cc or bcc address, a fact and never a status
    dedupe: str = ""  #: hash of what makes the fact one fact, even under another id
    detail: dict[str, Any] = field(default_factory=dict)
