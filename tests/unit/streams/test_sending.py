"""What can still stop a call whose claim has won: everything that is known when its turn comes."""

import asyncio
from collections.abc import Callable
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest
from msgspec import structs

from mailstream import codec
from mailstream.attempt import ReleasedRecord
from mailstream.clock import SystemClock
from mailstream.status import EmailStatus, Status
from streams.core import fold
from streams.core.outcome import Withheld
from streams.gate import look
from streams.sending import Sending
from tests.support.builders import HOME, NOW, a_request, a_status, an_event
from tests.support.desk import ATTEMPTS, Desk, turns
from tests.support.system import some_settings


class Line:
    """A gate that opens when the test says so."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()

    async def passed(self, is_recalled: Callable[[], bool]) -> Any:
        """As the gate does."""
        await self.opened.wait()
        return None if is_recalled() else look()


class Provider:
    """Counts the calls that start."""

    def __init__(self) -> None:
        self.calls = 0

    def prepare(self, *_: Any, **__: Any) -> Any:
        """As SendGrid's does."""
        return Mock(is_sandbox=False)

    async def send(self, _: Any, may_start: Callable[[], Any]) -> Any:
        """As SendGrid's does, up to the first byte."""
        if not await may_start():
            return Withheld()
        self.calls += 1
        raise AssertionError("called")


@pytest.mark.parametrize("has_evidence", [True, False])
async def test_a_marked_resend_is_not_called_when_evidence_of_the_first_call_comes_while_it_waits(
    *, has_evidence: bool
) -> None:
    desk, line, provider = Desk(), Line(), Provider()
    status = desk.knows(structs.replace(a_status(Status.HELD, 1), held_at=NOW))
    sending = _sending(desk, line, provider)
    under_way = asyncio.ensure_future(sending.send(status, HOME, lambda: None, is_barred=lambda _: False))
    await turns()
    (claim,) = desk.records()
    desk.acknowledge(ATTEMPTS)
    desk.read_back(claim)
    await turns()
    assert _known(desk, status.id).status is Status.PROCESSING

    if has_evidence:
        desk.projection.put(fold.happened(_known(desk, status.id), an_event()), HOME)
    line.opened.set()
    await turns()

    released = [record for record in desk.records() if isinstance(record, ReleasedRecord)]
    if not has_evidence:
        assert (provider.calls, released) == (1, [])
        with pytest.raises(AssertionError, match="called"):
            await under_way
        return
    assert provider.calls == 0
    assert [(record.attempt, record.nonce) for record in released] == [(2, claim.nonce)]
    desk.acknowledge(ATTEMPTS)
    await under_way
    desk.read_back(released[0])
    assert _known(desk, status.id).status is Status.DELIVERED, "the release changes nothing"


async def test_an_email_that_is_barred_while_its_body_is_read_is_not_claimed() -> None:
    """A partition that is silent for long: the rebalance, or the cancel, comes while its body is waited for."""
    desk, body, barred = Desk(), asyncio.Event(), set[str]()
    status = desk.knows(a_status(Status.QUEUED))

    async def read(_: object) -> bytes:
        await body.wait()
        return codec.encode(a_request())

    sending = _sending(desk, Line(), Provider(), read=read)
    under_way = asyncio.ensure_future(
        sending.send(status, HOME, lambda: None, is_barred=lambda email_id: email_id in barred)
    )
    await turns()
    barred.add(status.id)
    body.set()

    await asyncio.wait_for(under_way, 1)

    assert desk.records() == []


def _known(desk: Desk, id_: str) -> EmailStatus:
    status = desk.table.get_status(id_)
    assert status is not None
    return status


def _sending(desk: Desk, line: Line, provider: Provider, *, read: Any = None) -> Sending:
    return Sending(
        settings=some_settings("nobody:1"),
        table=desk.table,
        bodies=Mock(get=read or AsyncMock(return_value=codec.encode(a_request()))),
        rendering=Mock(rendered=lambda request: request),
        suppressions=Mock(reason=lambda *_: None),
        groups=Mock(parts_of=lambda _: ()),
        digests=Mock(),
        claim_log=desk.log,
        pace=Mock(),
        gate=line,  # type: ignore[arg-type]
        provider=provider,  # type: ignore[arg-type]
        trouble=Mock(),
        clock=SystemClock(),
    )
