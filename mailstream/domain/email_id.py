"""Make and read an email id: ``em_<recipient hash, 8 hex>_<unique part>``.

The partition of any email follows from its id, in the API and in the worker, without a look-up.
"""

import hashlib
import re

import uuid_utils

from mailstream.domain.errors import BadEmailId
from mailstream.domain.recipient import partition_of, recipient_hash

_FORM = re.compile(r"em_([0-9a-f]{8})_([0-9A-Za-z-]{1,64})")


def new(canonical_recipient: str) -> str:
    """An id that nothing repeats. Only for API and CLI, before the record is written."""
    return f"em_{recipient_hash(canonical_recipient):08x}_{uuid_utils.uuid7().hex}"


def derived(tenant: str, source: str, idempotency_key: str, canonical_recipient: str) -> str:
    """The id of what a caller names by an idempotency key: the same request asked twice has the same id."""
    unique = _digest(tenant, source, idempotency_key, canonical_recipient)
    return f"em_{recipient_hash(canonical_recipient):08x}_{unique}"


def of_place(topic: str, partition: int, offset: int, canonical_recipient: str) -> str:
    """The id of a record that names none, from where it was first read: reading it again gives it again."""
    unique = _digest(topic, str(partition), str(offset))
    return f"em_{recipient_hash(canonical_recipient):08x}_{unique}"


def hash_in(email_id: str) -> int:
    """The recipient hash inside an id. Raises BadEmailId."""
    if not (found := _FORM.fullmatch(email_id)):
        raise BadEmailId("an email id looks like em_1c2f9a3b_… (em_, 8 hex digits, a unique part)")
    return int(found[1], 16)


def partition_in(email_id: str, partitions: int) -> int:
    """The partition of every record about this email. Raises BadEmailId."""
    return partition_of(hash_in(email_id), partitions)


def is_email_id(text: str) -> bool:
    """Whether the text has the form of an id, with a hash that a recipient can have."""
    found = _FORM.fullmatch(text)
    return found is not None and int(found[1], 16) <= 0x7FFFFFFF


def _digest(*parts: str) -> str:
    """32 hex digits of sha256 over the parts, each behind its length so that no two lists read alike."""
    hasher = hashlib.sha256()
    for part in parts:
        data = part.encode()
        hasher.update(len(data).to_bytes(8, "big") + data)
    return hasher.hexdigest()[:32]
