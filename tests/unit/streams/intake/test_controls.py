"""How control records are decided: in the order of the log, and never so that events of a digest are lost."""

import asyncio
from collections.abc import Callable
from itertools import accumulate
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest
from msgspec import structs

from mailstream.clock import SystemClock
from mailstream.domain.errors import NotPublished
from mailstream.domain.request import Cap, ControlKind, Digest
from mailstream.domain.status import EmailStatus, Status
from streams.core.caps_and_digests import CapAndDigestIndex
from streams.intake import controls as controls_module
from streams.intake.controls import Controls
from tests.support.builders import HOME, ID, a_control, a_request, a_status, later

WISH = a_request(cap=Cap("k", 1, 60), digest=Digest("k", 60, "t"))


async def decided(*others: EmailStatus) -> tuple[list[EmailStatus], Any]:
    """What a cancel of Ada's waiting email writes as its decision, and what it claims."""
    leader, groups = a_status(request=WISH), CapAndDigestIndex()
    for status in (leader, *others):
        groups.changed(None, status, HOME)
    written: list[EmailStatus] = []

    def put(status: EmailStatus, partition: int, then: Callable[[], None]) -> None:
        written.append(status)
        then()

    table = Mock(get_status=Mock(return_value=leader), owned=Mock(return_value={HOME}))
    projection = Mock(is_pending=Mock(return_value=False), put=put)
    claim_log = Mock(claim=AsyncMock(return_value=object()))
    controls = Controls(
        table=table, projection=projection, claim_log=claim_log, clock=SystemClock(), recall=Mock(), queue=Mock(), groups=groups,
    )  # fmt: skip
    done = Mock()
    await controls.decide(a_control(), HOME, 9, done)
    done.assert_called_once()
    return written, claim_log.claim


async def test_an_email_that_others_were_digested_into_cannot_be_cancelled() -> None:
    part = structs.replace(a_status(Status.SUPPRESSED, 1, request=WISH), id=f"{ID}2", digested_into=ID)

    (written,), claim = await decided(part)

    assert written.status is Status.QUEUED
    assert (written.timeline[-1].what, written.timeline[-1].detail) == ("cancel_refused", "already_digested")
    claim.assert_not_called()


async def test_one_that_only_waits_with_others_can() -> None:
    written, claim = await decided(structs.replace(a_status(request=WISH), id=f"{ID}2"))

    assert not written
    claim.assert_awaited_once()


# -- the order of the log ------------------------------------------------------------------------------------------


async def test_a_control_that_cannot_be_decided_now_keeps_its_place_before_a_later_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(controls_module, "AGAIN_SECONDS", 0.0)
    decided: list[int] = []
    refusals = 3
    known = a_status()

    async def claim(status: EmailStatus, partition: int, *, control: int, **_: Any) -> object:
        nonlocal refusals, known
        await asyncio.sleep(0)
        if control == 9 and refusals:
            refusals -= 1
            raise NotPublished("no acknowledgement")
        decided.append(control)
        known = structs.replace(known, control=control)
        return object()

    bars: list[int] = []
    controls = Controls(
        table=Mock(get_status=lambda _: known, owned=Mock(return_value={HOME})),
        projection=Mock(is_pending=Mock(return_value=False)),
        claim_log=Mock(claim=claim),
        clock=SystemClock(),
        recall=Mock(),
        queue=Mock(bar=lambda _: bars.append(1), unbar=lambda _: bars.append(-1)),
        groups=CapAndDigestIndex(),
    )
    reschedules = [a_control(ControlKind.RESCHEDULE, send_at=later(60 * offset)) for offset in (9, 10, 11)]
    done = Mock()

    await asyncio.gather(
        *(controls.decide(control, HOME, offset, done) for offset, control in enumerate(reschedules, 9))
    )

    assert decided == [9, 10, 11]
    assert done.call_count == 3
    standing = list(accumulate(bars))
    assert standing[-1] == 0
    assert all(standing[:-1]), "between two of them the email can be claimed by no call"
