"""The ledger: pages, cursors, counts, bounds."""

from typing import Any

import msgspec

from dev.sendgrid.ledger import Call, Ledger


def a_ledger(*accepted: bool, most: int = 100) -> Ledger:
    ledger = Ledger(most)
    for is_accepted in accepted:
        seq = ledger.next_seq
        ledger.write(Call(seq, is_accepted, "202" if is_accepted else "500", 0, 0.0, id=f"em_{seq}"))
    return ledger


def read(page: dict[str, Any]) -> tuple[list[str], int, bool]:
    plain = msgspec.json.decode(msgspec.json.encode(page))
    return [call["id"] for call in plain["data"]], plain["next"], plain["has_more"]


def test_accepted_calls_are_shown_and_the_others_on_demand() -> None:
    ledger = a_ledger(True, False, True)

    assert read(ledger.page()) == (["em_1", "em_3"], 3, False)
    assert read(ledger.page(with_refused=True)) == (["em_1", "em_2", "em_3"], 3, False)
    assert ledger.page()["counts"] == {"calls": 3, "accepted": 2, "202": 2, "500": 1}


def test_pages_follow_each_other_without_gap_or_repeat() -> None:
    ledger = a_ledger(*[n % 3 != 0 for n in range(50)])
    wanted, _, _ = read(ledger.page())

    found, cursor, has_more = [], 0, True
    while has_more:
        ids, cursor, has_more = read(ledger.page(since=cursor, limit=7))
        found += ids

    assert found == wanted


def test_old_calls_are_forgotten_and_counted() -> None:
    ledger = a_ledger(*[True] * 5, most=3)

    assert read(ledger.page()) == (["em_3", "em_4", "em_5"], 5, False)
    assert read(ledger.page(since=4)) == (["em_5"], 5, False)
    assert ledger.page()["counts"]["forgotten"] == 2


def test_the_cursor_goes_on_over_a_clearing() -> None:
    ledger = a_ledger(True, True)
    ledger.clear()

    assert read(ledger.page(since=2)) == ([], 2, False)
    assert ledger.next_seq == 3


def test_a_cursor_from_the_future_finds_nothing() -> None:
    assert read(a_ledger(True).page(since=99)) == ([], 99, False)
