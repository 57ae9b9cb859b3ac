"""Do the provider's events arrive? While they do not, the clock of HOLD_TIMEOUT stands still.

What is watched follows from the statuses alone, so a worker that starts, or gains a partition, knows what it knew before:
a restart in the middle of an outage of the webhook proves nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass

from mailstream.domain.status import ACCEPTED, EmailStatus

YOUNGEST, OLDEST = 120.0, 3600.0  #: seconds after SENT in which an event must have come
SHARE = 0.99
FEW = 10  #: fewer emails than this prove nothing, and count as healthy
SAMPLE = 5000  #: emails that are watched at most: one of each slice of the last hour
SLICE_SECONDS = OLDEST / SAMPLE


@dataclass(slots=True)
class _Watched:
    id: str
    at: float  #: when it was SENT, in seconds since 1970
    has_event: bool


class WebhookHealth:
    """Watches a sample of the emails that were SENT, in any order. Told the time; no I/O."""

    def __init__(self) -> None:
        self._sent: dict[int, _Watched] = {}  #: by slice of time
        self._slices: dict[str, int] = {}  #: by email id

    def accepted(self, status: EmailStatus, now: float) -> None:
        """The newest status of an email that the provider took: by and by an event about it is on its timeline."""
        if status.test:  # the sandbox sends no events
            return
        has_event = any(fact.key for fact in status.timeline)
        if (watched := self._slices.get(status.id)) is not None:
            self._sent[watched].has_event |= has_event
            return
        at = next((fact.at.timestamp() for fact in status.timeline if fact.status in ACCEPTED), 0.0)
        slice_ = int(at / SLICE_SECONDS)
        if at < now - OLDEST or slice_ in self._sent:
            return
        self._sent[slice_], self._slices[status.id] = _Watched(status.id, at, has_event), slice_
        if len(self._sent) > SAMPLE:
            self._drop([next(iter(self._sent))])  # about the oldest: they come in the order of time but for a start

    def lose(self, is_lost: Callable[[str], bool]) -> None:
        """Forget emails whose events another worker hears now: their silence here says nothing."""
        self._drop([slice_ for slice_, watched in self._sent.items() if is_lost(watched.id)])

    def is_healthy(self, now: float) -> bool:
        """Whether nearly all emails SENT between 2 and 60 minutes ago have an event."""
        self._drop([slice_ for slice_, watched in self._sent.items() if watched.at < now - OLDEST])
        due = [watched.has_event for watched in self._sent.values() if watched.at <= now - YOUNGEST]
        return len(due) < FEW or sum(due) >= SHARE * len(due)

    def _drop(self, slices: list[int]) -> None:
        for slice_ in slices:
            del self._slices[self._sent.pop(slice_).id]
