"""Only the finished head of a partition may be committed, and nothing may be skipped unseen."""

from typing import TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mailstream.domain.errors import OffsetGap
from streams.core.offset_tracker import InFlight, OffsetTracker


def added(acks: OffsetTracker[str], place: str, *offsets: int) -> list[InFlight[str]]:
    slots = [acks.add(place, offset) for offset in offsets]
    return [slot for slot in slots if slot is not None]


@pytest.mark.parametrize(
    ("finished", "head"),
    [
        pytest.param([], None, id="nothing finished, nothing to commit"),
        pytest.param([5], 6, id="the first one"),
        pytest.param([6, 7], None, id="a hole at the front holds all back"),
        pytest.param([5, 7], 6, id="up to the hole"),
        pytest.param([7, 6, 5], 8, id="a hole that closes frees what stands behind it"),
    ],
)
def test_what_may_be_committed_ends_before_the_first_unfinished_record(finished: list[int], head: int | None) -> None:
    acks: OffsetTracker[str] = OffsetTracker()
    slots = {slot.offset: slot for slot in added(acks, "p", 5, 6, 7)}

    for offset in finished:
        acks.done(slots[offset])

    assert acks.committable().get("p") == head


def test_a_record_that_was_added_before_is_dropped() -> None:
    acks: OffsetTracker[str] = OffsetTracker()
    added(acks, "p", 5, 6)

    assert acks.add("p", 5) is None
    assert acks.add("p", 6) is None
    assert acks.pending() == 2


def test_a_missing_offset_is_an_error_and_the_partition_stays_as_it_was() -> None:
    acks: OffsetTracker[str] = OffsetTracker()
    (slot,) = added(acks, "p", 5)

    with pytest.raises(OffsetGap, match="offset 7 follows 5"):
        acks.add("p", 7)

    acks.done(slot)
    assert acks.committable() == {"p": 6}
    assert added(acks, "p", 6)


def test_a_hole_that_nobody_wrote_may_be_skipped_and_does_not_move_the_head() -> None:
    acks: OffsetTracker[str] = OffsetTracker()
    (first,) = added(acks, "p", 5)
    acks.done(first)

    acks.skip_to("p", 9)
    (second,) = added(acks, "p", 9)

    assert acks.committable() == {"p": 6}
    acks.done(second)
    assert acks.committable() == {"p": 10}


def test_where_reading_begins_may_be_committed_before_anything_is_read() -> None:
    acks: OffsetTracker[str] = OffsetTracker()

    acks.begin("p", 40)

    assert acks.committable() == {"p": 40}
    with pytest.raises(OffsetGap):
        acks.add("p", 41)
    assert added(acks, "p", 40)


def test_a_record_from_before_a_revoke_changes_nothing_after_it() -> None:
    acks: OffsetTracker[str] = OffsetTracker()
    (old,) = added(acks, "p", 5)
    acks.forget()
    (new,) = added(acks, "p", 5)

    acks.done(old)

    assert acks.committable() == {}
    assert acks.pending() == 1
    acks.done(new)
    assert acks.committable() == {"p": 6}


def test_one_partition_can_be_forgotten_alone() -> None:
    acks: OffsetTracker[str] = OffsetTracker()
    (kept,) = added(acks, "p", 5)
    added(acks, "q", 1, 2)

    acks.forget_one("q")
    acks.done(kept)

    assert acks.pending() == 0
    assert acks.committable() == {"p": 6}
    assert acks.last("q") is None


def test_beginning_again_counts_no_record_twice() -> None:
    acks: OffsetTracker[str] = OffsetTracker()
    added(acks, "p", 5, 6)

    acks.begin("p", 5)

    assert acks.pending() == 0


class _Model(TypedDict):
    first: int
    slots: dict[int, InFlight[str]]
    finished: set[int]


class AnyOrderOfWork(RuleBasedStateMachine):
    """Records of two partitions are added in log order, finished in any order, and forgotten at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.acks: OffsetTracker[str] = OffsetTracker()
        self.model: dict[str, _Model] = {}
        self.stale: list[InFlight[str]] = []

    @rule(place=st.sampled_from("pq"), first=st.integers(0, 9))
    def add(self, place: str, first: int) -> None:
        model = self.model.setdefault(place, {"first": first, "slots": {}, "finished": set()})
        offset = model["first"] + len(model["slots"])
        slot = self.acks.add(place, offset)
        assert slot is not None
        model["slots"][offset] = slot

    @precondition(lambda self: any(model["slots"] for model in self.model.values()))
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        place = data.draw(st.sampled_from(sorted(p for p, model in self.model.items() if model["slots"])))
        offset = data.draw(st.sampled_from(sorted(self.model[place]["slots"])))
        self.acks.done(self.model[place]["slots"][offset])
        self.model[place]["finished"].add(offset)

    @rule(place=st.sampled_from("pq"))
    def forget_one(self, place: str) -> None:
        if model := self.model.pop(place, None):
            self.stale += model["slots"].values()
        self.acks.forget_one(place)

    @precondition(lambda self: self.stale)
    @rule()
    def finish_what_was_forgotten(self) -> None:
        self.acks.done(self.stale.pop())

    @invariant()
    def never_past_a_hole(self) -> None:
        committable = self.acks.committable()
        pending = 0
        for place, model in self.model.items():
            head = next((n for n in sorted(model["slots"]) if n not in model["finished"]), None)
            end = model["first"] + len(model["slots"]) if head is None else head
            assert committable.get(place) == (None if end == model["first"] else end)
            pending += model["first"] + len(model["slots"]) - end
        assert set(committable) <= set(self.model)
        assert self.acks.pending() == pending == sum(map(self.acks.unfinished, self.model))


test_no_order_of_work_commits_past_a_hole = AnyOrderOfWork.TestCase


@given(st.lists(st.integers(0, 20), min_size=1))
def test_whatever_offsets_come_a_record_is_added_at_most_once(offsets: list[int]) -> None:
    acks: OffsetTracker[str] = OffsetTracker()
    taken = []
    for offset in offsets:
        try:
            if acks.add("p", offset) is not None:
                taken.append(offset)
        except OffsetGap:
            break

    assert taken == list(range(taken[0], taken[0] + len(taken)))
