"""A provider that the test speaks for. It never raises, as no provider does."""

import asyncio
from collections import deque
from dataclasses import dataclass, field

from pydantic import SecretStr

from mailstream.clock import Clock
from mailstream.domain import codec
from mailstream.domain.request import EmailRequest
from streams.core.provider_answer import ProviderAnswer, Responded, Withheld
from streams.provider.port import Gate, Mail

ACCEPTED = Responded(202, message_id="m")


@dataclass(frozen=True, slots=True)
class Call:
    """One call whose first byte has left."""

    email_id: str
    at: float  #: monotonic time of its start
    wall: float  #: the same in seconds since 1970
    request: EmailRequest


@dataclass
class MemoryProvider:
    """Answers what the test has put into ``next_answers``, then ``answer``."""

    clock: Clock
    answer: ProviderAnswer = ACCEPTED
    next_answers: deque[ProviderAnswer] = field(default_factory=deque)
    probe_answer: ProviderAnswer = field(default_factory=lambda: Responded(200, is_sandbox=True))
    seconds: float = 0.0  #: from the first byte to the answer
    connect_seconds: float = 0.0
    calls: list[Call] = field(default_factory=list)
    probes: int = 0
    most_at_once: int = 0
    is_dead: bool = False  #: its process is gone
    _under_way: int = 0
    _requests: dict[bytes, EmailRequest] = field(default_factory=dict)

    def prepare(self, request: EmailRequest, *, email_id: str, attempt: int, nonce: str) -> Mail:
        """As SendGrid's does."""
        body = f"{email_id} {attempt} {nonce} ".encode() + codec.encode(request)
        self._requests[body] = request
        return Mail(email_id, body, is_sandbox=request.test)

    async def send(self, mail: Mail, gate: Gate | None = None) -> ProviderAnswer:
        """Connect, pass the gate, call."""
        self._under_way += 1
        self.most_at_once = max(self.most_at_once, self._under_way)
        try:
            await asyncio.sleep(self.connect_seconds)
            if (gate is not None and not await gate()) or self.is_dead:
                return Withheld()
            self.calls.append(Call(mail.email_id, self.clock.monotonic(), self.clock.now(), self._requests[mail.body]))
            answer = self.next_answers.popleft() if self.next_answers else self.answer
            await asyncio.sleep(self.seconds)
            return answer
        finally:
            self._under_way -= 1

    async def probe(self, gate: Gate | None = None) -> ProviderAnswer:
        """As SendGrid's does."""
        if gate is not None and not await gate():
            return Withheld()
        self.probes += 1
        return self.probe_answer

    def use_key(self, api_key: SecretStr) -> None:
        """Any key will do."""

    async def close(self) -> None:
        """Nothing is open."""

    def die(self) -> None:
        """Its process is gone: no further call begins."""
        self.is_dead = True

    def called(self) -> list[str]:
        """The emails that were called for, in that order."""
        return [call.email_id for call in self.calls]
