"""One element of SendGrid's webhook as a record of ``email.events``. Any field may be missing."""

import hashlib
import re
from datetime import datetime
from typing import Any

from mailstream.clock import moment
from mailstream.domain import email_id
from mailstream.domain.errors import BadAddress
from mailstream.domain.event import ProviderEvent
from mailstream.domain.recipient import canonical, recipient_hash
from mailstream.domain.suppression import Origin
from mailstream.domain.validation import is_unsafe

_NAME = re.compile(r"[a-z0-9_.-]{1,64}")
_ADDRESS = re.compile(r"[^\s<>@\"',;:()]+@[^\s<>@\"',;:()]+")
#: What is kept of an event: its reasons. Addresses of networks and people, and links, are not.
_KEPT = ("reason", "response", "status", "type", "bounce_classification", "attempt", "asm_group_id")
_TEXT_CHARACTERS, _ID_CHARACTERS = 500, 100
#: Seconds since 1970 between which an event can have happened: 2009 (SendGrid's first year) and 2100.
_BEGIN, _END = 1_230_768_000, 4_102_444_800
#: Events after which an address gets no more mail of the tenant.
_SUPPRESSING = {
    "bounce": Origin.BOUNCE,
    "dropped": Origin.PROVIDER,
    "spamreport": Origin.COMPLAINT,
    "unsubscribe": Origin.UNSUBSCRIBE,
    "group_unsubscribe": Origin.UNSUBSCRIBE,
}
#: Reasons of `dropped` that say something about the address, and not about this one email.
_DROPPED_FOR_GOOD = ("bounced address", "unsubscribed address", "spam reporting address", "invalid")


class BadEvent(Exception):
    """An element that is not an event. The text names the mistake, never a value."""


def event_of(element: Any) -> tuple[ProviderEvent, str | None]:
    """The event, and the canonical address that it is about where it names one. Raises BadEvent."""
    if not isinstance(element, dict):
        raise BadEvent("the element is not an object")
    name = element.get("event")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BadEvent("the element names no event")
    address = _address_in(element)
    found = _text(element, "ms_id", 80)
    id_ = found if found is not None and email_id.is_email_id(found) else None
    return (
        ProviderEvent(
            event=name,
            at=_time_in(element),
            id=id_,
            provider_event_id=_text(element, "sg_event_id", _ID_CHARACTERS),
            message_id=_message_id_in(element),
            attempt=_number(element, "ms_attempt"),
            nonce=_text(element, "ms_nonce", _ID_CHARACTERS),
            is_recipient=id_ is None or address is None or recipient_hash(address) == email_id.hash_in(id_),
            dedupe=_dedupe_of(element),
            detail={key: value for key in _KEPT if (value := _kept(element.get(key))) is not None},
        ),
        address,
    )


def suppresses(event: ProviderEvent) -> Origin | None:
    """Why the address of this event gets no more mail; None: it does."""
    origin = _SUPPRESSING.get(event.event)
    if event.event == "bounce" and event.detail.get("type") == "blocked":
        return None  # a refusal for now
    if event.event == "dropped":
        reason = str(event.detail.get("reason", "")).lower()
        return origin if reason.startswith(_DROPPED_FOR_GOOD) else None
    return origin


def _time_in(element: dict[str, Any]) -> datetime:
    stamp = _number(element, "timestamp")
    if stamp is None or not _BEGIN <= stamp <= _END:
        raise BadEvent("the element has no time, or an impossible one")
    return moment(stamp)


def _address_in(element: dict[str, Any]) -> str | None:
    try:
        return canonical(element["email"])
    except (KeyError, TypeError, AttributeError, BadAddress):
        return None


def _message_id_in(element: dict[str, Any]) -> str | None:
    """The ``X-Message-Id`` of the call: the first part of SendGrid's id, or of the ``smtp-id``."""
    if found := _text(element, "sg_message_id", 200):
        return found.partition(".")[0] or None
    if found := _text(element, "smtp-id", 200):
        return found.lstrip("<").partition("@")[0] or None
    return None


def _dedupe_of(element: dict[str, Any]) -> str:
    """What makes the fact one fact. Not its ``sg_event_id``, which may change when SendGrid repeats it."""
    named = element.get("ms_id") or element.get("sg_message_id") or ""
    parts = [named, *(element.get(key, "") for key in ("event", "timestamp", "email", "attempt", "url"))]
    return hashlib.sha256("\x00".join(str(part) for part in parts).encode(errors="replace")).hexdigest()[:32]


def _kept(value: Any) -> str | int | None:
    """A reason as it may be shown: no address in it, and not long."""
    if isinstance(value, bool) or value is None or isinstance(value, (dict, list, float)):
        return None
    if isinstance(value, int):
        return value if abs(value) < 2**31 else None
    return _ADDRESS.sub("<address>", str(value))[:_TEXT_CHARACTERS]


def _text(element: dict[str, Any], key: str, characters: int) -> str | None:
    value = element.get(key)
    return value if isinstance(value, str) and 0 < len(value) <= characters and not is_unsafe(value) else None


def _number(element: dict[str, Any], key: str) -> int | None:
    value = element.get(key)
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 12:
        return int(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value if isinstance(value, int) else None
