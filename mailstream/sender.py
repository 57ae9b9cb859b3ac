"""Who may stand in ``from``: no open relay (security.md S8). API, triggers and worker ask the same question."""

from collections.abc import Iterable

from mailstream.errors import BadAddress
from mailstream.recipient import canonical
from mailstream.settings import Settings


def of_account(settings: Settings) -> tuple[str, ...]:
    """What anyone may put there: ``SENDERS_ALLOWED``, or only ``SENDER`` when that is empty (amendment 24)."""
    if settings.senders_allowed:
        return settings.senders_allowed
    return (settings.sender,) if settings.sender else ()


def is_allowed(address: str, patterns: Iterable[str]) -> bool:
    """Whether a pattern allows the address: a whole address, or ``@domain`` for all of a domain, in any spelling."""
    try:
        asked = canonical(address)
    except BadAddress:
        return False
    domain = asked[asked.rindex("@") :]
    for pattern in patterns:
        if pattern.startswith("@"):
            if pattern.lower() == domain:
                return True
        elif _canonical_or_none(pattern) == asked:
            return True
    return False


def _canonical_or_none(pattern: str) -> str | None:
    try:
        return canonical(pattern)
    except BadAddress:
        return None
