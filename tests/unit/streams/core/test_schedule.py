"""Who is next: each email once, in order within a recipient, nobody forgotten, whatever happens in between."""

import itertools
import sys
from collections.abc import Iterator

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mailstream.domain.request import Lane
from mailstream.domain.status import Status
from streams.core.schedule import Schedule
from streams.core.waiting import Waiting, waiting
from tests.support.builders import HASH, HOME, ID, NOW, a_status, an_email, later


def taken(schedule: Schedule, now: float = 0.0) -> Iterator[str]:
    """The emails as they come, each finished at once."""
    while (email := schedule.next(now)) is not None:
        yield email.id
        schedule.done(email.recipient, now)


def test_the_oldest_due_email_is_next_and_comes_once() -> None:
    schedule = Schedule()
    for n, created in enumerate((30, 10, 20)):
        schedule.add(an_email(f"e{created}", recipient=n, created=created), 0)

    assert list(taken(schedule)) == ["e10", "e20", "e30"]
    assert not schedule


def test_an_email_waits_for_its_time() -> None:
    schedule = Schedule()
    schedule.add(an_email(due_in_seconds=60), 0)

    assert schedule.next(59.9) is None
    assert schedule.wakes_at(0) == 60
    assert schedule.next(60) is not None


def test_a_recipient_has_one_email_in_work_and_the_rest_wait_in_order() -> None:
    schedule = Schedule()
    for n in (2, 0, 1):
        schedule.add(an_email(f"e{n}", created=n), 0)

    first = schedule.next(0)

    assert first is not None
    assert first.id == "e0"
    assert schedule.next(0) is None
    schedule.done(first.recipient, 0)
    assert list(taken(schedule)) == ["e1", "e2"]


@pytest.mark.parametrize("is_known_in_order", [True, False])
def test_the_log_says_which_of_a_recipients_emails_comes_first_whatever_their_stamps_say(
    *, is_known_in_order: bool
) -> None:
    """The leader of the partition changed, and the new one's clock is behind."""
    emails = [an_email("first", created=100.0, order=10), an_email("second", created=99.7, order=11)]
    schedule = Schedule()
    for email in emails if is_known_in_order else reversed(emails):
        schedule.add(email, 200)

    assert list(taken(schedule, 200)) == ["first", "second"]


def test_of_two_partitions_the_email_goes_first_that_came_first() -> None:
    schedule = Schedule()
    for n, (partition, created) in enumerate(((0, 30), (1, 10), (0, 40), (2, 20), (1, 50))):
        schedule.add(an_email(f"e{created}", recipient=n, partition=partition, created=created, order=100 - n), 0)
    # each partition's own order stands: in the log e40 stands before e30, and e50 before e10
    assert list(taken(schedule)) == ["e20", "e40", "e30", "e50", "e10"]


def test_a_recipient_that_waits_parks_only_itself() -> None:
    schedule = Schedule(recipient_gap=10)
    for n in (0, 1):
        schedule.add(an_email(f"ada{n}", recipient=1, created=n), 0)
    schedule.add(an_email("bob", recipient=2, created=5), 0)

    assert list(taken(schedule, 0)) == ["ada0", "bob"]
    assert schedule.wakes_at(0) == 10
    assert list(taken(schedule, 9.9)) == []
    assert list(taken(schedule, 10)) == ["ada1"]


def test_critical_overtakes_and_bulk_still_comes() -> None:
    schedule = Schedule()
    for n in range(100):
        for lane in Lane:
            schedule.add(an_email(f"{lane}{n}", recipient=3 * n + list(Lane).index(lane), created=n, lane=lane), 0)

    first = list(itertools.islice(taken(schedule), 21))

    assert first[0].startswith("critical")
    counts = {lane: sum(id_.startswith(lane) for id_ in first) for lane in Lane}
    assert counts == {Lane.CRITICAL: 16, Lane.NORMAL: 4, Lane.BULK: 1}


def test_an_urgent_email_that_has_just_come_goes_before_a_long_queue() -> None:
    schedule = Schedule()
    for n in range(1000):
        schedule.add(an_email(f"b{n}", recipient=n, created=n, lane=Lane.BULK), 0)
    list(itertools.islice(taken(schedule), 500))

    schedule.add(an_email("code", recipient=5000, created=9999, lane=Lane.CRITICAL), 0)

    assert next(taken(schedule)) == "code"


def test_putting_an_email_off_lets_those_behind_it_go() -> None:
    """Found here: the one that had been let forward was put off for a year, and all behind it waited with it."""
    schedule = Schedule()
    for n in range(3):
        schedule.add(an_email(f"e{n}", created=n), 0)
    first = schedule.next(0)
    assert first is not None
    assert schedule.next(0) is None  # the others are parked
    schedule.done(first.recipient, 0)  # e1 comes forward

    schedule.add(an_email("e1", created=1, due_in_seconds=3e7), 0)

    assert next(taken(schedule)) == "e2"


def test_an_email_that_expires_is_taken_out_whether_due_or_not() -> None:
    schedule = Schedule()
    schedule.add(an_email("due", recipient=1, expires_in_seconds=5), 0)
    schedule.add(an_email("later", recipient=2, due_in_seconds=9, expires_in_seconds=5), 0)
    schedule.add(an_email("stays", recipient=3, expires_in_seconds=6), 0)

    assert {email.id for email in schedule.expired(5)} == {"due", "later"}
    assert list(schedule.expired(5)) == []
    assert list(taken(schedule, 5)) == ["stays"]


def test_emails_that_expire_together_can_be_taken_out_a_few_at_a_time() -> None:
    schedule = Schedule()
    for n in range(5):
        schedule.add(an_email(f"e{n}", recipient=n, expires_in_seconds=1), 0)

    assert [len(schedule.expired(1, at_most=2)) for _ in range(4)] == [2, 2, 1, 0]


def test_what_is_due_next_can_be_read_ahead() -> None:
    schedule = Schedule()
    for n in range(9):
        schedule.add(an_email(f"e{n}", recipient=n, created=n, due_in_seconds=0 if n < 6 else 60), 0)
    schedule.remove("e0")

    assert set(schedule.due_next(100)) == {"e1", "e2", "e3", "e4", "e5"}
    assert len(schedule.due_next(2)) <= 2


def test_what_waits_behind_few_recipients_can_be_read_ahead_too() -> None:
    schedule = Schedule()
    for n in range(9):
        schedule.add(an_email(f"e{n}", created=n), 0)
    first = schedule.next(0)
    assert first is not None
    assert schedule.next(0) is None  # the others are parked

    assert set(schedule.due_next(100)) == {f"e{n}" for n in range(1, 9)}


def test_the_backlog_is_counted_by_lane() -> None:
    schedule = Schedule()
    schedule.add(an_email("a", lane=Lane.BULK), 0)
    schedule.add(an_email("b", lane=Lane.BULK, due_in_seconds=9), 0)
    schedule.add(an_email("c"), 0)

    assert schedule.backlog() == {Lane.CRITICAL: 0, Lane.NORMAL: 1, Lane.BULK: 2}


def test_the_oldest_of_a_lane_is_the_one_that_was_asked_for_first_and_waits_since_it_is_due() -> None:
    schedule = Schedule()
    assert schedule.oldest() == {}
    schedule.add(an_email("a", created=5, recipient=1), 10)
    schedule.add(an_email("b", created=7, recipient=1), 10)
    schedule.add(an_email("c", created=1, due_in_seconds=8, recipient=2), 10)
    schedule.add(an_email("later", created=1, due_in_seconds=99, recipient=3), 10)
    schedule.add(an_email("d", created=9, recipient=4, lane=Lane.BULK), 10)

    assert schedule.oldest() == {Lane.NORMAL: 8, Lane.BULK: 9}  # "c" came due at 8


def test_an_email_behind_another_of_its_recipient_is_waiting_too() -> None:
    schedule = Schedule()
    schedule.add(an_email("a", created=5, recipient=1), 10)
    schedule.add(an_email("b", created=7, recipient=1), 10)
    assert schedule.next(10) is not None
    assert schedule.next(10) is None

    assert schedule.oldest() == {Lane.NORMAL: 7}


def test_emails_that_are_gone_take_no_memory() -> None:
    """A heap drops an entry when it comes up: with a time far ahead that would be far ahead."""
    schedule = Schedule()
    year = 3e7
    before = sys.getallocatedblocks()
    for n in range(3000):
        schedule.add(an_email(f"sent{n}", recipient=n, expires_in_seconds=year), 0)
        schedule.add(an_email(f"cancelled{n}", recipient=n, due_in_seconds=year), 0)
        schedule.remove(f"cancelled{n}")
        assert next(taken(schedule)) == f"sent{n}"

    assert sys.getallocatedblocks() - before < 6000, "less than one object for each"


def test_those_that_stay_keep_their_order_when_the_others_are_dropped() -> None:
    schedule = Schedule()
    dues = [(n * 7919) % 1000 for n in range(1000)]
    for n, due in enumerate(dues):
        schedule.add(an_email(f"e{due}", recipient=n, due_in_seconds=due + 1, expires_in_seconds=due + 1), 0)
    for due in range(1000):
        if due % 10:
            schedule.remove(f"e{due}")

    for due in range(0, 1000, 20):
        assert schedule.wakes_at(due) == due + 1
        assert [email.id for email in schedule.expired(due + 1)] == [f"e{due}"]
        schedule.remove(f"e{due + 10}")


def test_an_email_waits_as_its_status_says() -> None:
    status = a_status(Status.RETRYING, 1, due_at=later(30), expires_at=later(60))

    email = waiting(status, HOME)

    assert (email.id, email.partition, email.recipient) == (ID, HOME, HASH)
    assert (email.created, email.order) == (NOW.timestamp(), 7)
    assert (email.due, email.expires) == (later(30).timestamp(), later(60).timestamp())


class AnyInterleaving(RuleBasedStateMachine):
    """Everything that can happen to a schedule, beside a model that is too slow to be wrong."""

    @initialize(gap=st.sampled_from([0.0, 3.0]), is_clock_right=st.booleans())
    def begin(self, gap: float, *, is_clock_right: bool) -> None:
        """A broker's clock that is right never steps back: then stamps and offsets say the same."""
        self.now, self.gap, self.is_clock_right, self.newest_stamp = 0.0, gap, is_clock_right, 0
        self.schedule = Schedule(recipient_gap=self.gap)
        self.waiting: dict[str, Waiting] = {}
        self.in_work: list[Waiting] = []
        self.rests: dict[int, float] = {}
        self.serial = itertools.count()

    def is_free(self, recipient: int, at: float) -> bool:
        return recipient not in {email.recipient for email in self.in_work} and self.rests.get(recipient, 0.0) <= at

    def eligible(self) -> list[Waiting]:
        return [e for e in self.waiting.values() if e.due <= self.now and self.is_free(e.recipient, self.now)]

    @rule(
        recipient=st.integers(0, 2),
        lane=st.sampled_from(Lane),
        created=st.integers(0, 5),
        due=st.sampled_from([0, 0, 0, 1, 2, 4]),
        expires=st.none() | st.integers(1, 9),
    )
    def add(self, recipient: int, lane: Lane, created: int, due: int, expires: int | None) -> None:
        serial = next(self.serial)
        if self.is_clock_right:
            created = self.newest_stamp = self.newest_stamp + created
        self._add(
            an_email(
                f"e{serial}",
                recipient=recipient,
                lane=lane,
                created=created,
                order=serial,
                partition=recipient % 3,
                due_in_seconds=self.now + due if due else 0,
                expires_in_seconds=expires and self.now + expires,
            )
        )

    @rule(
        count=st.integers(3, 12),
        recipients=st.sampled_from([1, 3, 20]),
        lane=st.sampled_from(Lane),
        due=st.sampled_from([0, 0, 1, 3]),
        expires=st.none() | st.integers(1, 9),
        is_backwards=st.booleans(),
    )
    def add_many(
        self, count: int, recipients: int, lane: Lane, due: int, expires: int | None, is_backwards: bool
    ) -> None:
        for n in range(count):
            self.add(n % recipients, lane, 5 - n % 6 if is_backwards else n % 6, due and due + n % 2, expires)

    @rule(partition=st.integers(0, 2))
    def lose(self, partition: int) -> None:
        """All emails of a recipient are in one partition."""
        self.schedule.lose([partition])
        self.waiting = {id_: email for id_, email in self.waiting.items() if email.partition != partition}

    def _add(self, email: Waiting) -> None:
        self.schedule.add(email, self.now)
        self.waiting[email.id] = email

    @precondition(lambda self: self.waiting or self.in_work)
    @rule(data=st.data(), due=st.sampled_from([0, 1, 3]))
    def add_again(self, data: st.DataObject, due: int) -> None:
        """Put off, retried, released: with a new time, from the schedule or out of work."""
        known = sorted([*self.waiting.values(), *self.in_work], key=lambda e: e.id)
        old = data.draw(st.sampled_from(known))
        self._add(
            an_email(
                old.id,
                recipient=old.recipient,
                lane=old.lane,
                created=old.created,
                order=old.order,
                partition=old.partition,
                due_in_seconds=self.now + due if due else 0,
                expires_in_seconds=old.expires,
            )
        )

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        email_id = data.draw(st.sampled_from(sorted(self.waiting)))
        assert self.schedule.remove(email_id) is self.waiting.pop(email_id)
        assert self.schedule.remove(email_id) is None

    @rule()
    def take(self) -> None:
        eligible = self.eligible()
        email = self.schedule.next(self.now)
        if email is None:
            assert not eligible, "somebody is due and free"
            return
        known = self.waiting.pop(email.id)
        assert email is known, "each email comes once"
        assert known in eligible, "due, and nothing of its recipient is in work or rests"
        others = [e for e in eligible if e.lane is email.lane]
        of_partition = [e for e in others if e.partition == email.partition]
        assert known is min(of_partition, key=lambda e: e.order), "the first of its partition in the log"
        if self.is_clock_right:
            assert known is min(others, key=lambda e: (e.created, e.order)), "the oldest of its lane"
        self.in_work.append(email)

    @rule(data=st.data())
    def restart(self, data: st.DataObject) -> None:
        """Another worker, or the same again: it learns of all that wait, in any order."""
        self.schedule = Schedule(recipient_gap=self.gap)
        self.waiting |= {email.id: email for email in self.in_work}
        self.in_work, self.rests = [], {}
        for email in data.draw(st.permutations(list(self.waiting.values()))):
            self.schedule.add(email, self.now)

    @precondition(lambda self: self.in_work)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        email = self.in_work.pop(data.draw(st.integers(0, len(self.in_work) - 1)))
        self.schedule.done(email.recipient, self.now)
        self.rests[email.recipient] = self.now + self.gap

    @rule(seconds=st.sampled_from([0.5, 1, 3]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.waiting)
    @rule()
    def sleep_as_told(self) -> None:
        wakes_at = self.schedule.wakes_at(self.now)
        self.now = max(self.now, wakes_at) if wakes_at is not None else self.now

    @rule(at_most=st.none() | st.integers(1, 2))
    def expire(self, at_most: int | None) -> None:
        due = {e.id for e in self.waiting.values() if e.expires is not None and e.expires <= self.now}
        found = [email.id for email in self.schedule.expired(self.now, at_most=at_most)]
        assert len(found) == len(set(found)) == min(len(due), at_most or len(due))
        assert set(found) <= due
        for email_id in found:
            del self.waiting[email_id]

    @invariant()
    def it_knows_who_waits(self) -> None:
        assert {email.id for email in self.schedule} == set(self.waiting)
        assert self.schedule.backlog() == {lane: sum(e.lane is lane for e in self.waiting.values()) for lane in Lane}
        assert len(self.schedule) == len(self.waiting)
        assert all(email_id in self.schedule for email_id in self.waiting)
        assert set(self.schedule.due_next(100)) <= {e.id for e in self.waiting.values() if e.due <= self.now}

    @invariant()
    def it_never_sleeps_through_an_email(self) -> None:
        busy = {email.recipient for email in self.in_work}
        soonest = min(
            (max(e.due, self.rests.get(e.recipient, 0.0), self.now) for e in self.waiting.values() if e.recipient not in busy),
            default=None,
        )  # fmt: skip
        wakes_at = self.schedule.wakes_at(self.now)
        if soonest is not None:
            assert wakes_at is not None
            assert wakes_at <= soonest


test_nobody_is_lost_doubled_or_overtaken_in_any_interleaving = AnyInterleaving.TestCase


@pytest.mark.parametrize("count", [3000])
def test_many_emails_to_one_recipient_do_not_cost_a_look_each(count: int) -> None:
    schedule = Schedule()
    for n in range(count):
        schedule.add(an_email(f"e{n}", created=n), 0)

    assert list(taken(schedule)) == [f"e{n}" for n in range(count)]


def test_many_emails_to_one_recipient_come_in_order_and_hold_no_other_up() -> None:
    schedule = Schedule()
    for n in range(5000):
        schedule.add(an_email(f"e{n}", recipient=1, created=n), 0)
    first = schedule.next(0)
    assert first is not None
    schedule.add(an_email("other", recipient=2, created=9000), 0)

    looks = list(itertools.takewhile(lambda email: email is None, (schedule.next(0) for _ in range(9))))
    assert 1 < len(looks) < 9, "those behind the first are parked, some in each call, until the other one comes"

    schedule.done(first.recipient, 0)
    assert list(taken(schedule)) == [f"e{n}" for n in range(1, 5000)]


def test_many_emails_that_come_due_together_come_in_several_calls() -> None:
    schedule = Schedule()
    for n in range(5000):
        schedule.add(an_email(f"e{n}", recipient=n, created=n % 7, order=n, due_in_seconds=10), 0)
    assert schedule.wakes_at(0) == 10
    assert schedule.next(9) is None

    came: list[str] = []
    for tenths in range(100, 104):
        assert (schedule.wakes_at(tenths / 10) or 0) <= tenths / 10
        came += taken(schedule, tenths / 10)

    assert sorted(came) == sorted(f"e{n}" for n in range(5000))
    assert not schedule
    assert schedule.wakes_at(11) is None


def test_an_urgent_email_overtakes_those_in_the_cold() -> None:
    schedule = Schedule()
    for n in range(1000):
        schedule.add(an_email(f"b{n}", recipient=n, created=n, lane=Lane.BULK), 0)
    assert next(taken(schedule)) == "b0"

    schedule.add(an_email("code", recipient=5000, created=9999, lane=Lane.CRITICAL), 0)

    assert next(taken(schedule)) == "code"
