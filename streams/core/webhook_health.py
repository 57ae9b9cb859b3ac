"""Do the provider's events arrive? While they do not, the clock of HOLD_TIMEOUT stands still (guarantees §3)."""

from collections import OrderedDict
from collections.abc import Callable

YOUNGEST, OLDEST = 120.0, 3600.0  #: seconds after SENT in which an event must have come
SHARE = 0.99
FEW = 10  #: fewer emails than this prove nothing, and count as healthy
SAMPLE = 5000  #: emails that are watched at most


class WebhookHealth:
    """Watches a sample of the emails that were SENT. Told the time; no I/O."""

    def __init__(self) -> None:
        self._sent: OrderedDict[str, tuple[float, bool]] = OrderedDict()
        self._newest = 0.0

    def sent(self, email_id: str, now: float) -> None:
        """An email was accepted by the provider."""
        if 0 <= now - self._newest < OLDEST / SAMPLE:  # spread over the hour: at any time there are some of each minute
            return
        self._newest = now
        self._forget_old(now)
        self._sent.setdefault(email_id, (now, False))

    def heard(self, email_id: str) -> None:
        """An event about the email came."""
        if (watched := self._sent.get(email_id)) is not None:
            self._sent[email_id] = (watched[0], True)

    def lose(self, is_lost: Callable[[str], bool]) -> None:
        """Forget emails whose events another worker hears now: their silence here says nothing."""
        for email_id in [email_id for email_id in self._sent if is_lost(email_id)]:
            del self._sent[email_id]

    def is_healthy(self, now: float) -> bool:
        """Whether nearly all emails SENT between 2 and 60 minutes ago have an event."""
        self._forget_old(now)
        due = [has_event for at, has_event in self._sent.values() if at <= now - YOUNGEST]
        return len(due) < FEW or sum(due) >= SHARE * len(due)

    def _forget_old(self, now: float) -> None:
        while self._sent and (len(self._sent) > SAMPLE or next(iter(self._sent.values()))[0] < now - OLDEST):
            self._sent.popitem(last=False)
