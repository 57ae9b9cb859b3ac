"""How many recipients a key may have a day (UTC): no key can be used to flood.

What was asked for today is counted from the log, so a restart forgets nothing: exact with one API process, with more it
may be exceeded by what the others accept within the lag of the view. A quota counts all recipients of its tenant; the
copies of an email count where it was accepted, and once more as part of the one email after a restart.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from api.keys import Key
from api.problems import Code, Problem
from api.view.brief import Brief
from mailstream.clock import Clock, moment
from mailstream.domain.recipient import canonical, recipient_hash
from mailstream.domain.request import EmailRequest

DAY_SECONDS = 86_400


class Quota:
    """Follows every email of today, and adds what this process is accepting right now."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._begin_day(self._today())

    def changed(self, key: bytes, before: Brief | None, after: Brief | None) -> None:
        """Count an email that was unknown, unless it was counted when it was accepted here."""
        if before is not None or after is None:
            return
        if after.created_at < self._begin:
            return
        if after.created_at >= self._end:
            self._begin_day(int(after.created_at.timestamp()) // DAY_SECONDS)
        if not self._forget_own(key):
            self._tenants[after.tenant] += 1
            self._recipients[hash((after.tenant, after.recipient))] += 1

    def loaded(self) -> None:
        """Nothing more to do."""

    @contextmanager
    def taken(self, caller: Key, requests: Iterable[EmailRequest]) -> Iterator["Taken"]:
        """Count these while they are put into the log. Raises Problem 429 when they are too many, and counts none."""
        if caller.quota is None and caller.quota_per_recipient is None:
            yield Taken()
            return
        today = self._today()
        if today > self._day:
            self._begin_day(today)
        asked, day = list(requests), self._day
        count = sum(map(_recipients_of, asked))
        self._require(caller, asked, count)
        marks = Counter(_mark(request) for request in asked)
        self._tenants[caller.tenant] += count
        self._recipients.update(marks)
        own = {(request.id or "").encode() for request in asked}
        self._own |= own
        taken = Taken()
        try:
            yield taken
        except BaseException:
            taken.was_new = False
            raise
        finally:
            # refused, or a repeat of what was counted when it was new
            if (others := taken.not_new if taken.was_new else asked) and day == self._day:
                self._tenants[caller.tenant] -= sum(map(_recipients_of, others))
                self._recipients.subtract(map(_mark, others))
                self._own -= {(request.id or "").encode() for request in others}

    def _require(self, caller: Key, asked: list[EmailRequest], count: int) -> None:
        used = self._tenants[caller.tenant]
        if caller.quota is not None and used + count > caller.quota:
            raise self._used_up(f"{used} of {caller.quota} recipients of today are used.")
        if (most := caller.quota_per_recipient) is not None:
            marks = Counter(_mark(request) for request in asked)
            if any(self._recipients[mark] + more > most for mark, more in marks.items()):
                raise self._used_up(f"A recipient may get {most} emails a day with this key.")

    def _used_up(self, detail: str) -> Problem:
        seconds = DAY_SECONDS - int(self._clock.now()) % DAY_SECONDS
        headers = {"Retry-After": str(seconds)}
        return Problem(
            Code.QUOTA_USED_UP, f"{detail} A new day begins at 00:00 UTC. Nothing was accepted.", headers=headers
        )

    def _forget_own(self, key: bytes) -> bool:
        if key in self._own:
            self._own.discard(key)
            return True
        return False

    def _today(self) -> int:
        return int(self._clock.now()) // DAY_SECONDS

    def _begin_day(self, day: int) -> None:
        self._day = day
        self._begin, self._end = moment(day * DAY_SECONDS), moment((day + 1) * DAY_SECONDS)
        self._tenants: Counter[str] = Counter()
        self._recipients: Counter[int] = Counter()  #: by a hash of tenant and recipient hash
        self._own: set[bytes] = set()  #: accepted here, not read from the log yet


class Taken:
    """What becomes of what was counted."""

    def __init__(self) -> None:
        self.was_new = True  #: set it to False for a repeat, which counts for nothing
        self.not_new: list[EmailRequest] = []  #: of many: those that were asked before, or refused


def _recipients_of(request: EmailRequest) -> int:
    return 1 + len(request.cc) + len(request.bcc)


def _mark(request: EmailRequest) -> int:
    return hash((request.tenant, f"{recipient_hash(canonical(request.to.email)):08x}"))
