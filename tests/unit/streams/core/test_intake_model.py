"""What stands around the claim, under every interleaving: the rules hold, and each one that is left out is missed.

Read twice: by the few lines of the model (are the rules right?) and by ``streams.core`` (does the product keep them?).
Figures are printed with ``-s``.
"""

from typing import Any

import pytest

from tests.support.intake_model import Finding, explore
from tests.support.intake_product import PRODUCT
from tests.support.intake_rules import (
    BATCH,
    CANCEL,
    OTHER_BATCH,
    OTHER_REQUEST,
    REQUEST,
    RESCHEDULE,
    SKETCH,
    Entry,
    Reader,
    Rules,
)
from tests.support.intake_state import Scope

PROTOCOL = Rules("the protocol")
RESEND = Rules("the protocol, with the marked resend", resends=True)
READERS = [pytest.param(SKETCH, id="read by the model"), pytest.param(PRODUCT, id="read by the product")]
Script = tuple[Entry, ...]
LOST, LATE = "a 202 is lost", "claimed for a call, and a cancel stood in the log at the assignment"


def found(rules: Rules, *script: Entry, **scope: Any) -> Finding:
    finding = explore(Scope(rules, script, **scope))
    print(f"\n{finding}")
    return finding


@pytest.mark.parametrize(
    ("rules", "script", "breaks"),
    [
        (Rules("what memory knows is acked: mails", acks_memory="mails"), (REQUEST,), LOST),
        (Rules("what memory knows is acked: events", acks_memory="events"), (REQUEST,), "evidence is lost"),
        (
            Rules("what memory knows is acked: controls", acks_memory="controls"),
            (REQUEST, CANCEL),
            "a control was acked",
        ),
        (Rules("no barrier for controls", bars_controls=False), (REQUEST, CANCEL), LATE),
        (Rules("no barrier for events", bars_events=False), (REQUEST,), "UNCONFIRMED, and evidence stood"),
        (Rules("no barrier for events, resend", bars_events=False, resends=True), (REQUEST,), "sent again"),
        (Rules("a barrier for new partitions only, controls", bars_kept=False), (REQUEST, CANCEL), LATE),
        (
            Rules("a barrier for new partitions only, events", bars_kept=False),
            (REQUEST,),
            "UNCONFIRMED, and evidence stood",
        ),
        (Rules("an item that is not unfolded is unknown", takes_from_batch=False), (BATCH, CANCEL), "claimed for a"),
        (Rules("a batch forgets its fingerprint", remembers_batch=False), (BATCH, OTHER_BATCH), "two bodies"),
        (Rules("controls in any order", in_order=False), (REQUEST, CANCEL, RESCHEDULE), LATE),
        (Rules("a batch acked before its items", batch_waits=False), (BATCH,), LOST),
        (Rules("an item unfolded again has another id", has_stable_ids=False), (BATCH,), "one key, two mails"),
        (Rules("a former owner is bound too", binds_former=True), (REQUEST, CANCEL), LATE),
    ],
    ids=lambda value: value.name if isinstance(value, Rules) else "",
)
def test_what_looks_simpler_is_broken(rules: Rules, script: Script, breaks: str) -> None:
    finding = found(rules, *script, events=len(script) == 1)

    assert finding.breaks
    assert finding.breaks.startswith(breaks)


@pytest.mark.parametrize(
    ("rules", "read"), [(PROTOCOL, SKETCH), (PROTOCOL, PRODUCT), (RESEND, PRODUCT)], ids=["model", "product", "resend"]
)
def test_evidence_is_neither_lost_nor_overtaken(rules: Rules, read: Reader) -> None:
    finding = found(rules, REQUEST, read=read)

    assert not finding.breaks
    assert not finding.stuck
    assert {"HELD", "SENT", "UNCONFIRMED"} <= finding.shown
    assert ("claim to resend" in finding.steps) == rules.resends


def test_a_hold_that_asks_for_the_end_of_the_events_needs_no_barrier_for_them() -> None:
    finding = found(Rules("holds ask for the end of the events", holds_ask=True, bars_events=False), REQUEST)

    assert not finding.breaks
    assert not finding.stuck


@pytest.mark.parametrize("read", READERS)
def test_a_cancel_is_neither_lost_nor_overtaken(read: Reader) -> None:
    finding = found(PROTOCOL, REQUEST, CANCEL, room=2, events=False, read=read)

    assert not finding.breaks
    assert not finding.stuck
    assert {"CANCELLED", "HELD", "SENT"} <= finding.shown
    assert {"claim to cancel", "decide cancel by the status"} <= finding.steps


def test_a_cancel_finds_the_item_of_a_batch() -> None:
    finding = found(PROTOCOL, BATCH, CANCEL, room=1, items=1, events=False, read=PRODUCT)

    assert not finding.breaks
    assert not finding.stuck
    assert {"CANCELLED", "SENT"} <= finding.shown
    assert {"unfold", "read cancel, take its item from the batch"} <= finding.steps


def test_a_batch_is_one_fact_however_often_it_is_unfolded() -> None:
    finding = found(PROTOCOL, BATCH, OTHER_BATCH, room=1, events=False, read=PRODUCT)

    assert not finding.breaks
    assert not finding.stuck
    assert "422" in finding.steps


@pytest.mark.parametrize("read", READERS)
def test_a_dead_letter_behind_a_mail_that_is_not_durable_yet_waits_for_it(read: Reader) -> None:
    finding = found(PROTOCOL, REQUEST, OTHER_REQUEST, room=1, events=False, read=read)

    assert not finding.breaks
    assert not finding.stuck
    assert "read request, dead letter" in finding.steps


def test_an_ack_past_an_unfinished_record_loses_mail() -> None:
    def past(committed: int, finished: tuple[bool, ...]) -> int:
        return committed + max((place for place, is_finished in enumerate(finished, 1) if is_finished), default=0)

    finding = found(
        Rules("acks past what is unfinished"), REQUEST, OTHER_REQUEST, events=False, read=SKETCH._replace(head=past)
    )

    assert finding.breaks
    assert finding.breaks.startswith(LOST)


def test_controls_are_decided_in_the_order_of_the_log() -> None:
    finding = found(PROTOCOL, REQUEST, CANCEL, RESCHEDULE, room=0, events=False, read=PRODUCT)

    assert not finding.breaks
    assert not finding.stuck
    assert "CANCELLED" in finding.shown


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("rules", "script", "scope"),
    [
        (PROTOCOL, (REQUEST,), {"workers": 3}),
        (RESEND, (REQUEST,), {"room": 5}),
        (PROTOCOL, (REQUEST, CANCEL), {}),
        (RESEND, (REQUEST, CANCEL), {}),
        (PROTOCOL, (REQUEST, CANCEL), {"workers": 3, "room": 2, "events": False}),
        (PROTOCOL, (REQUEST, CANCEL, RESCHEDULE), {"events": False}),
        (PROTOCOL, (BATCH, CANCEL), {"room": 2, "events": False}),
    ],
)
def test_it_holds_in_the_long_run_too(rules: Rules, script: Script, scope: dict[str, Any]) -> None:
    finding = found(rules, *script, **scope, read=PRODUCT)

    assert not finding.breaks
    assert not finding.stuck
