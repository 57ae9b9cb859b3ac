"""The last gate: who may pass, when a connection may be made for it, and that a probe passes it as a mail does."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from unittest.mock import Mock

import pytest

from mailstream.clock import SystemClock
from mailstream.domain.attempt import Outcome
from mailstream.domain.request import Address, EmailRequest
from mailstream.settings import Settings
from streams.core.circuit_breaker import CircuitBreaker
from streams.core.pace import Now, Pace
from streams.core.provider_answer import NeverLeft, ProviderAnswer, Responded, Withheld
from streams.sending.attempt import Sending
from streams.sending.gate import LOOK_SECONDS, Gate, read_clocks

GAP = 0.4
SENDER = "noreply@example.com"


def a_pace(gap: float = GAP) -> Pace:
    pace = Pace(gap=gap, burst=1, partitions=4)
    pace.owns(range(4), read_clocks())
    return pace


class Scene:
    """A sender without emails, and what happens in it: the connection is made, the account's turn is taken, it is sent."""

    def __init__(self, pace: Pace, answer: ProviderAnswer, closed: Callable[[], str | None] = lambda: None) -> None:
        self.answer, self.happened = answer, list[str]()
        self.connected_at = 0.0
        started = pace.started

        def note_start(now: Now) -> int | None:
            self.happened.append("turn")
            return started(now)

        pace.started = note_start  # type: ignore[method-assign]
        names = ("table", "bodies", "rendering", "suppressions", "groups", "digests", "claim_log")
        parts: Any = {name: Mock() for name in names}
        self.breaker = CircuitBreaker()
        self.breaker.learn(Outcome.ACCOUNT_FAULT, "a key that was taken back", 0.0)
        self.sending = Sending(
            settings=Settings(_env_file=None, sender=SENDER),
            **parts,
            breaker=self.breaker,
            pace=pace,
            gate=Gate(pace, closed),
            provider=self,  # type: ignore[arg-type]
            clock=SystemClock(),
        )

    async def probe(self, gate: Callable[[], Awaitable[bool]]) -> ProviderAnswer:
        """As SendGrid's: when there is no connection the gate is not asked."""
        self.connected_at = read_clocks().monotonic
        await asyncio.sleep(0.05)
        self.happened.append("connected")
        if isinstance(self.answer, NeverLeft):
            return self.answer
        if not await gate():
            return Withheld()
        self.happened.append("sent")
        return self.answer


WELL = Responded(200, is_sandbox=True)


async def test_a_probe_takes_its_turn_when_its_connection_is_ready() -> None:
    scene = Scene(a_pace(), WELL)

    await scene.sending.probe()

    assert scene.happened == ["connected", "turn", "sent"]
    assert scene.breaker.reason is None


async def test_a_probe_for_a_refused_sender_does_so_too() -> None:
    scene = Scene(a_pace(), WELL)
    request = EmailRequest(to=Address("ada@example.com"), from_=Address("other@example.com"))

    _, reason = await scene.sending._proof(Responded(403), request)

    assert reason == "sender_refused"
    assert scene.happened == ["connected", "turn", "sent"]


async def test_a_probe_without_a_connection_takes_no_turn() -> None:
    scene = Scene(a_pace(), NeverLeft("the provider could not be reached"))

    await scene.sending.probe()

    assert scene.happened == ["connected"]
    assert scene.breaker.reason is not None


async def test_no_connection_is_held_through_a_long_gap() -> None:
    pace = a_pace(gap=1.0)
    scene, start = Scene(pace, WELL), pace.next_start(read_clocks())
    assert start is not None

    await scene.sending.probe()

    assert start - scene.connected_at <= LOOK_SECONDS + 0.01


@pytest.mark.parametrize("is_paused", [True, False], ids=["paused", "closed"])
async def test_a_probe_that_may_not_go_connects_to_nothing_and_proves_nothing(*, is_paused: bool) -> None:
    pace = a_pace()
    if is_paused:
        pace.pause_until(read_clocks().monotonic + 60)
    scene = Scene(pace, WELL, lambda: None if is_paused else "draining")

    await scene.sending.probe()

    assert scene.happened == []
    assert scene.breaker.reason is not None
