"""Who may stand in ``from``: no open relay (security.md S8). API, triggers and worker ask the same question."""

from collections.abc import Collection

from mailstream.domain.errors import BadAddress
from mailstream.domain.recipient import canonical


def of_account(sender: str | None, senders_allowed: Collection[str]) -> frozenset[str]:
    """What anyone may put there, in canonical form: ``SENDERS_ALLOWED``, and ``SENDER`` in any case.

    ``SENDER`` stands in every record of the API whose caller named nobody: a worker must take what the API wrote.
    """
    given = (*senders_allowed, *([sender] if sender else ()))
    return frozenset(each.lower() if each.startswith("@") else canonical(each) for each in given)


def is_allowed(address: str, patterns: Collection[str]) -> bool:
    """Whether a pattern allows the address: a whole address, or ``@domain`` for all of a domain, in any spelling."""
    try:
        asked = canonical(address)
    except BadAddress:
        return False
    domain = asked[asked.rindex("@") :]
    if asked in patterns or domain in patterns:  # as good as always: those of the account are canonical
        return True
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
