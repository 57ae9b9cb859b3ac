"""Is this webhook really from SendGrid: ECDSA P-256 over ``timestamp ‖ raw body``."""

import base64
import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable

SIGNATURE_HEADER = "X-Twilio-Email-Event-Webhook-Signature"
TIMESTAMP_HEADER = "X-Twilio-Email-Event-Webhook-Timestamp"
#: Nothing separates timestamp and body in what is signed: a moved digit would verify as well.
_TIMESTAMP = re.compile(r"[0-9]{10}")
AHEAD_SECONDS = 300


class NotSigned(Exception):
    """The post is not from the provider, or from another time. Nothing about it may be believed."""


class Verifier:
    """Holds the public keys: several during a rotation; none: nothing is ever believed."""

    def __init__(self, keys: Iterable[str], *, max_age_seconds: float) -> None:
        """``keys``: base64 SPKI. Raises WrongSettings when one is not a P-256 key."""
        self._keys: list[Callable[[bytes, bytes], bool]] = []
        if texts := tuple(keys):
            from api.inbound.public_key import read  # only where there is a key: 7 MB in memory

            self._keys = [read(text, place) for place, text in enumerate(texts, start=1)]
        self._max_age_seconds = max_age_seconds

    def verify(self, body: bytes, signature: str | None, timestamp: str | None, *, now: float) -> float:
        """Return the age of the post in seconds. Raises NotSigned for all that can be wrong."""
        if signature is None or timestamp is None or not _TIMESTAMP.fullmatch(timestamp):
            raise NotSigned
        try:
            raw = base64.b64decode(signature, validate=True)
        except ValueError:
            raise NotSigned from None
        signed = timestamp.encode() + body
        if not any(has_signed(raw, signed) for has_signed in self._keys):
            raise NotSigned
        age = now - int(timestamp)
        if not -AHEAD_SECONDS <= age <= self._max_age_seconds:
            raise NotSigned
        return age


class Replays:
    """Posts that were taken before, by sha256 of timestamp and body: the signature itself is malleable."""

    def __init__(self, most: int = 10_000) -> None:
        self._most = most
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    @staticmethod
    def key_of(body: bytes, timestamp: str) -> bytes:
        """What makes two posts the same."""
        return hashlib.sha256(timestamp.encode() + body).digest()

    def __contains__(self, key: bytes) -> bool:
        return key in self._seen

    def add(self, key: bytes) -> None:
        """Remember a post; call it when all of its events are in the log."""
        self._seen[key] = None
        if len(self._seen) > self._most:
            self._seen.popitem(last=False)
