"""The backlog counts what waits, whatever comes and goes in between."""

from hypothesis import given
from hypothesis import strategies as st

from mailstream.domain.backlog import Backlog, Waiting
from mailstream.domain.request import Lane

EMAIL = st.builds(
    Waiting, lane=st.sampled_from(Lane), created=st.integers(0, 20), due=st.integers(0, 20), partition=st.integers(0, 3)
)
STEPS = st.lists(st.one_of(EMAIL, st.integers(0, 20), st.just("remove")), max_size=40)


@given(steps=STEPS)
def test_counts_are_those_of_what_is_in_it(steps: list[Waiting | int | str]) -> None:
    backlog, emails, now = Backlog(), list[Waiting](), 0
    for step in steps:
        if isinstance(step, Waiting):
            backlog.add(step)
            emails.append(step)
        elif isinstance(step, int):
            now = max(now, step)
            backlog.wake(now)
        elif emails:
            backlog.remove(emails.pop(0))

        backlog.wake(now)
        for lane in Lane:
            ready = sorted(email.created for email in emails if email.lane is lane and email.due <= now)
            assert backlog.ready()[lane] == len(ready)
            assert backlog.later()[lane] == sum(email.lane is lane and email.due > now for email in emails)
            assert backlog.oldest(lane) == (ready[0] if ready else None)
            assert backlog.ahead(Waiting(lane, 10, 0, 0)) == sum(created < 10 for created in ready)
            assert sum(backlog.by_partition(lane).values()) == sum(email.lane is lane for email in emails)
        assert backlog.due_before(15) == sum(now < email.due < 15 for email in emails)
