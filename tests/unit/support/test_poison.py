"""Every kind of poison against intake: the corpus is right, and so is what becomes of it."""

from collections import Counter

import pytest

from mailstream.domain.dead_letter import Reason
from mailstream.domain.record import Record
from streams.core import intake
from tests.support import poison
from tests.support.poison import Poison

PARTITIONS = 4
NOW = 1_795_500_000.0
RULES = intake.Rules(PARTITIONS, max_age_seconds=604_800, senders=frozenset({"sender@example.com"}))


def ruling_on(record: Poison) -> intake.Ruling | intake.New | intake.Known | intake.Carried:
    received = Record(
        "email.requested", record.partition(PARTITIONS), 7, int(NOW * 1000), record.key, record.value, record.headers
    )
    ruling = intake.read(received, RULES, NOW)
    return intake.decide(ruling, None) if isinstance(ruling, intake.ParsedRequest) else ruling


@pytest.mark.parametrize("record", poison.POISONS, ids=lambda record: record.name)
def test_a_poison_is_a_dead_letter_with_its_bytes_and_reason(record: Poison) -> None:
    ruling = ruling_on(record)

    assert isinstance(ruling, intake.Rejected)
    assert ruling.dead_letter.reason is record.reason
    assert ruling.dead_letter.record.value == record.value
    if record.id is not None:
        assert ruling.id == record.id


@pytest.mark.parametrize("record", poison.STRANGE, ids=lambda record: record.name)
def test_what_only_looks_strange_is_taken(record: Poison) -> None:
    assert isinstance(ruling_on(record), intake.Ignored if record.value is None else intake.New)


def test_the_corpus_is_wide() -> None:
    names = [record.name for record in (*poison.POISONS, *poison.STRANGE)]

    assert len(poison.POISONS) >= 60
    assert [name for name, count in Counter(names).items() if count > 1] == []
    by_state = {Reason.UNKNOWN_ID, Reason.ID_CONFLICT, Reason.TEMPLATE_FAILED, Reason.MAPPING_FAILED, Reason.BAD_EVENT}
    assert {record.reason for record in poison.POISONS} == set(Reason) - by_state


def test_no_detail_repeats_a_value() -> None:
    for record in poison.POISONS:
        ruling = ruling_on(record)
        assert isinstance(ruling, intake.Rejected)
        assert "ada@" not in ruling.dead_letter.detail.lower()
        assert "lovelace" not in ruling.dead_letter.detail.lower()
        assert "elsewhere" not in ruling.dead_letter.detail
