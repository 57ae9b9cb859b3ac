"""How many recipients a key may have a day (UTC): no key can be used to flood.

What was asked for today is counted from the log, so a restart forgets nothing: exact with one API process, with more it
may be exceeded by what the others accept within the lag of the view. A quota counts all recipients of its tenant; the
copies of an email count where it was accepted, and once more as part of the one email after a restart.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from api.keys import Key
from api.problems import Code, Problem
from api.view.brief import Seen
from mailstream.clock import Clock, moment
from mailstream.domain.recipient import canonical, recipient_hash
from mailstream.domain.request import EmailRequest

DAY_SECONDS = 86_400


class Quota:
    """Follows every email of today, and adds what this process is accepting right now."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._begin_day(self._today())

    def changed(self, key: bytes, before: Seen | None, after: Seen | None) -> None:
        """Count an email that was unknown, unless it was counted when it was accepted here."""
        if before is not None or after is None:
            return
        if after.created_at < self._begin:
            return
        if after.created_at >= self._end:
            self._begin_day(int(after.created_at.timestamp()) // DAY_SECONDS)
        if key in self._own:
            self._own.discard(key)
        else:
            self._tenants[after.tenant] += 1
            self._recipients[hash((after.tenant, after.recipient))] += 1

    @contextmanager
    def taken(self, caller: Key, asked: Sequence[EmailRequest]) -> Iterator[list[EmailRequest]]:
        """Count these while they are put into the log. Raises Problem 429 when they are too many, and counts none.

        Add to the list those that were asked for before, or refused: they count for nothing.
        """
        others: list[EmailRequest] = []
        if caller.quota is None and caller.quota_per_recipient is None:
            yield others
            return
        today = self._today()
        if today > self._day:
            self._begin_day(today)
        day, count, marks = self._day, sum(map(_recipients_of, asked)), Counter(map(_mark, asked))
        self._require(caller, count, marks)
        self._tenants[caller.tenant] += count
        self._recipients.update(marks)
        self._own |= {(request.id or "").encode() for request in asked}
        try:
            yield others
        except BaseException:
            others = [*asked]
            raise
        finally:
            if others and day == self._day:
                self._tenants[caller.tenant] -= sum(map(_recipients_of, others))
                self._recipients.subtract(map(_mark, others))
                self._own -= {(request.id or "").encode() for request in others}

    def _require(self, caller: Key, count: int, marks: Counter[int]) -> None:
        used = self._tenants[caller.tenant]
        if caller.quota is not None and used + count > caller.quota:
            raise self._used_up(f"{used} of {caller.quota} recipients of today are used.")
        most = caller.quota_per_recipient
        if most is not None and any(self._recipients[mark] + more > most for mark, more in marks.items()):
            raise self._used_up(f"A recipient may get {most} emails a day with this key.")

    def _used_up(self, detail: str) -> Problem:
        seconds = DAY_SECONDS - int(self._clock.now()) % DAY_SECONDS
        headers = {"Retry-After": str(seconds)}
        return Problem(
            Code.QUOTA_USED_UP, f"{detail} A new day begins at 00:00 UTC. Nothing was accepted.", headers=headers
        )

    def _today(self) -> int:
        return int(self._clock.now()) // DAY_SECONDS

    def _begin_day(self, day: int) -> None:
        self._day = day
        self._begin, self._end = moment(day * DAY_SECONDS), moment((day + 1) * DAY_SECONDS)
        self._tenants: Counter[str] = Counter()
        self._recipients: Counter[int] = Counter()  #: by a hash of tenant and recipient hash
        self._own: set[bytes] = set()  #: accepted here, not read from the log yet


def _recipients_of(request: EmailRequest) -> int:
    return 1 + len(request.cc) + len(request.bcc)


def _mark(request: EmailRequest) -> int:
    return hash((request.tenant, f"{recipient_hash(canonical(request.to.email)):08x}"))
