"""Which addresses may stand in ``from``: no open relay. API, triggers and worker ask the same question."""

from collections.abc import Collection

from mailstream.domain.recipient import canonical, canonical_or_none


def of_account(sender: str | None, senders_allowed: Collection[str]) -> frozenset[str]:
    """What any caller may put there, in canonical form: ``SENDERS_ALLOWED``, and ``SENDER`` in any case.

    ``SENDER`` stands in every record of the API whose caller named no sender: a worker must take what the API wrote.
    """
    given = (*senders_allowed, *([sender] if sender else ()))
    return frozenset(each.lower() if each.startswith("@") else canonical(each) for each in given)


def is_allowed(address: str, patterns: Collection[str]) -> bool:
    """Whether a pattern allows the address: a whole address, or ``@domain`` for all of a domain, in any spelling."""
    if (asked := canonical_or_none(address)) is None:
        return False
    domain = asked[asked.rindex("@") :]
    if asked in patterns or domain in patterns:  # as good as always: those of the account are canonical
        return True
    return any(
        pattern.lower() == domain if pattern.startswith("@") else canonical_or_none(pattern) == asked
        for pattern in patterns
    )
