"""A cancel of an email in whose favour others have ended would lose their events: it is refused."""

from collections.abc import Callable
from typing import Any
from unittest.mock import AsyncMock, Mock

from msgspec import structs

from mailstream.clock import SystemClock
from mailstream.request import Cap, Digest
from mailstream.status import EmailStatus, Status
from streams.controls import Controls
from streams.core.groups import Groups
from tests.support.builders import HOME, ID, a_control, a_request, a_status

WISH = a_request(cap=Cap("k", 1, 60), digest=Digest("k", 60, "t"))


async def decided(*others: EmailStatus) -> tuple[list[EmailStatus], Any]:
    """What a cancel of Ada's waiting email writes as its decision, and what it claims."""
    leader, groups = a_status(request=WISH), Groups()
    for status in (leader, *others):
        groups.changed(status)
    written: list[EmailStatus] = []

    def put(status: EmailStatus, partition: int, then: Callable[[], None]) -> None:
        written.append(status)
        then()

    table = Mock(get_status=Mock(return_value=leader), owned=Mock(return_value={HOME}))
    projection = Mock(is_unborn=Mock(return_value=False), put=put)
    claim_log = Mock(claim=AsyncMock(return_value=object()))
    controls = Controls(
        table, projection, claim_log, SystemClock(), give_back=Mock(), resend=Mock(), bar=Mock(), unbar=Mock(),
        groups=groups,
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
