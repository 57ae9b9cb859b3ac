"""When an unknown outcome is called HELD, and how a HELD email ends when no evidence comes."""

from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest
from msgspec import structs

from mailstream.domain.attempt import Instead
from mailstream.domain.request import OnAmbiguous
from mailstream.domain.status import ACCEPTED, EmailStatus, Status
from streams.sending.holds import CALL_SECONDS, LONGEST_HOLD_SECONDS, Holds
from tests.support.builders import HOME, NOW, a_status
from tests.support.system import some_settings

TIMEOUT = 3600.0


class Watch:
    """One email, watched from ``NOW`` until some seconds later; then whatever is due is done."""

    def __init__(
        self,
        status: EmailStatus,
        *,
        is_alive: bool = False,
        is_healthy: bool = True,
        is_assigned: bool = True,
        is_barred: bool = False,
    ) -> None:
        self.claim_log = Mock(is_alive=Mock(return_value=is_alive), hold=AsyncMock(), claim=AsyncMock())
        self.resend = Mock()
        self._seconds = 0.0
        clock = Mock(now=lambda: NOW.timestamp() + self._seconds, monotonic=lambda: self._seconds)
        settings = some_settings("nobody:1", hold_timeout=TIMEOUT, sendgrid_webhook_keys=("key",))
        table: Any = Mock(get_status=Mock(return_value=status), owned=Mock(return_value={HOME}))
        self.health = health = Mock(is_healthy=Mock(return_value=is_healthy))
        self._holds = Holds(
            settings=settings, table=table, claim_log=self.claim_log, clock=clock, health=health,
            queue=Mock(resend=self.resend, is_barred=lambda _: is_barred),
            clearance=Mock(partitions={HOME} if is_assigned else set()),
        )  # fmt: skip
        self._holds.changed(None, status, HOME)

    async def after(self, seconds: float) -> "Watch":
        self._seconds = seconds
        await self._holds.look()
        return self


def processing() -> EmailStatus:
    return structs.replace(a_status(Status.PROCESSING, 1), updated_at=NOW)


def held(**members: Any) -> EmailStatus:
    return structs.replace(a_status(Status.HELD, 1), held_at=NOW, **members)


async def test_an_email_that_was_accepted_owes_an_event_and_no_other_does() -> None:
    for status in Status:
        watch = Watch(a_status(status, 1))
        assert watch.health.accepted.called is (status in ACCEPTED)


async def test_a_call_of_a_worker_that_is_gone_is_held_when_no_call_can_last_that_long() -> None:
    assert not (await Watch(processing()).after(CALL_SECONDS - 1)).claim_log.hold.called
    (await Watch(processing()).after(CALL_SECONDS)).claim_log.hold.assert_awaited_once()


async def test_our_own_call_is_never_held() -> None:
    assert not (await Watch(processing(), is_alive=True).after(CALL_SECONDS * 2)).claim_log.hold.called


async def test_without_evidence_a_held_email_ends_as_unconfirmed() -> None:
    assert not (await Watch(held()).after(TIMEOUT - 1)).claim_log.claim.called

    watch = await Watch(held()).after(TIMEOUT)

    assert watch.claim_log.claim.await_args.kwargs["instead"] is Instead.UNCONFIRMED
    watch.resend.assert_not_called()


async def test_or_it_is_sent_once_more_where_the_caller_wants_that() -> None:
    watch = await Watch(held(on_ambiguous=OnAmbiguous.RESEND)).after(TIMEOUT)

    watch.resend.assert_called_once()
    assert not watch.claim_log.claim.called


@pytest.mark.parametrize("bar", [{"is_assigned": False}, {"is_barred": True}])
@pytest.mark.parametrize("status", [processing(), held(), held(on_ambiguous=OnAmbiguous.RESEND)])
async def test_nothing_is_decided_while_the_evidence_may_stand_unread(
    status: EmailStatus, bar: dict[str, bool]
) -> None:
    watch = await Watch(status, **bar).after(TIMEOUT * 2)

    assert not watch.claim_log.hold.called
    assert not watch.claim_log.claim.called
    assert not watch.resend.called


async def test_while_events_are_late_nothing_is_decided_for_25_hours_at_most() -> None:
    assert not (await Watch(held(), is_healthy=False).after(TIMEOUT)).claim_log.claim.called
    assert (await Watch(held(), is_healthy=False).after(LONGEST_HOLD_SECONDS)).claim_log.claim.called
