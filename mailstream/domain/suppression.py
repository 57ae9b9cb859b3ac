"""An address that gets no mail, why and since when: the records of ``email.suppressions``."""

import hashlib
from datetime import datetime
from enum import StrEnum

from msgspec import Struct


class Origin(StrEnum):
    """Who put the address there."""

    BOUNCE = "bounce"
    COMPLAINT = "complaint"
    UNSUBSCRIBE = "unsubscribe"
    PROVIDER = "provider"  #: the provider dropped a mail for its own suppression
    PERSON = "person"  #: an operator or the API


class Suppression(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """``email.suppressions`` v1. Key: sha256(tenant, canonical recipient), in the recipient's partition."""

    tenant: str
    recipient: str  #: the recipient hash, 8 hex digits
    address: str  #: canonical; people must be able to read and remove it
    origin: Origin
    reason: str = ""
    since: datetime
    by: str = ""


def key_of(tenant: str, canonical_recipient: str) -> bytes:
    """The record key: hides the address from key-only tools, separates tenants."""
    return hashlib.sha256(f"{len(tenant)}:{tenant}{canonical_recipient}".encode()).hexdigest().encode()
