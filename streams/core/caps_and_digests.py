"""Emails of one recipient that hang together: what a frequency cap counts, what a digest gathers (ADR-0012).

An index over the statuses of the owned partitions, made from nothing else: so a new owner decides as the former one
would have. All emails of a group are of one recipient, hence in one partition, and one of them is in work at a time.
"""

from collections.abc import Set
from datetime import datetime, timedelta
from typing import Any

from mailstream.domain.request import Cap, EmailRequest
from mailstream.domain.status import EmailStatus, Status, group_of

#: Proof, or the possibility, that the provider has the email. The rest was certainly not sent.
_NOT_CALLED = frozenset(
    {
        Status.QUEUED,
        Status.RETRYING,
        Status.CANCELLED,
        Status.EXPIRED,
        Status.SUPPRESSED,
        Status.FAILED,
        Status.REJECTED,
    }
)


class CapAndDigestIndex:
    """Told of every status; asked right before a claim."""

    def __init__(self) -> None:
        self._called: dict[str, dict[str, float]] = {}  #: cap group → email → when its newest call was claimed
        self._waiting: dict[str, dict[str, tuple[int, datetime | None]]] = {}  #: digest group → email → order, due
        self._parts: dict[str, dict[str, int]] = {}  #: email → those that are told in its mail → order
        #: Email → its keys in these three, and its partition.
        self._places: dict[str, tuple[str | None, str | None, str | None, int]] = {}

    # -- what is known ------------------------------------------------------------------------------------

    def changed(self, before: EmailStatus | None, status: EmailStatus, partition: int) -> None:
        """Take the newest status of an email."""
        if status.cap_group is None and status.digest_group is None:
            return
        self.forget(status.id)
        cap = digest = into = None
        if status.cap_group is not None and (at := _called_at(status)) is not None:
            cap = status.cap_group
            self._called.setdefault(cap, {})[status.id] = at
        if status.digest_group is not None and status.status is Status.QUEUED:
            digest = status.digest_group
            self._waiting.setdefault(digest, {})[status.id] = status.order, status.due_at
        if status.digested_into is not None:
            into = status.digested_into
            self._parts.setdefault(into, {})[status.id] = status.order
        self._places[status.id] = cap, digest, into, partition

    def forget(self, email_id: str) -> None:
        """The email is not known any longer."""
        cap, digest, into, _ = self._places.pop(email_id, (None, None, None, 0))
        _drop(self._called, cap, email_id)
        _drop(self._waiting, digest, email_id)
        _drop(self._parts, into, email_id)

    def lost(self, partitions: Set[int]) -> None:
        """Forget the emails of partitions that belong to others now."""
        for email_id in [email_id for email_id, place in self._places.items() if place[3] in partitions]:
            self.forget(email_id)

    # -- what follows -------------------------------------------------------------------------------------

    def over_cap(self, status: EmailStatus, cap: Cap | None, now: float) -> str | None:
        """Why the email may not be sent at ``now`` (seconds since 1970): its key had its mails. None: it may.

        A resend was counted at its first call, and with a digest the events of others would be lost: both may.
        """
        if cap is None or status.status is Status.HELD or self.parts_of(status.id):
            return None
        sent = self.called_since(status, now - cap.seconds)
        return f"frequency_cap: {sent} mails in {cap.seconds} s, key {cap.key}" if sent >= cap.count else None

    def called_since(self, status: EmailStatus, since: float) -> int:
        """How many other emails of its cap were called for after ``since`` (seconds since 1970), or may have been."""
        called = self._called.get(status.cap_group or "", {})
        return sum(at > since for email_id, at in called.items() if email_id != status.id)

    def due(self, request: EmailRequest, at: datetime) -> datetime | None:
        """When the window closes into which a request falls that was written at ``at``. None: it is for no digest."""
        if request.digest is None:
            return None
        waiting = self._waiting.get(group_of(request, request.digest.key), {})
        opened = at + timedelta(seconds=request.digest.seconds)
        return min([opened, *(due or at for _, due in waiting.values())])

    def due_with(self, status: EmailStatus, now: float) -> list[str]:
        """The other emails that wait for the same digest and are due, in the order of their requests."""
        waiting = self._waiting.get(status.digest_group or "", {})
        due = [
            (order, email_id)
            for email_id, (order, at) in waiting.items()
            if email_id != status.id and (at is None or at.timestamp() <= now)
        ]
        return [email_id for _, email_id in sorted(due)]

    def parts_of(self, email_id: str) -> list[str]:
        """The emails that ended because this one's mail tells their events, in the order of their requests."""
        parts = self._parts.get(email_id, {})
        return sorted(parts, key=parts.__getitem__)


def _drop(index: dict[str, Any], key: str | None, email_id: str) -> None:
    if key is not None:
        index[key].pop(email_id, None)
        if not index[key]:
            del index[key]


def _called_at(status: EmailStatus) -> float | None:
    if status.test or (status.status in _NOT_CALLED and status.doubt is None):
        return None
    claims = [fact.at for fact in status.timeline if fact.status is Status.PROCESSING]
    return max(claims, default=status.updated_at).timestamp()
