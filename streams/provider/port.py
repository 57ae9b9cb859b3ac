"""The port to a provider: what the worker asks of it and what it may answer.

A provider returns answers; it never raises for anything that the network does. What an answer proves is
decided in ``streams.core.provider_answer``.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from pydantic import SecretStr

from mailstream.domain.request import EmailRequest
from streams.core.provider_answer import ProviderAnswer

#: The last gate: waits for the turn and says whether the call may still start. It is asked when the connection is
#: ready, so that no look-up and no handshake stands between it and the first byte. It is not asked when there is
#: no connection, and is cancelled when the connection is lost while it waits: both are answered by NeverLeft.
Gate = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Mail:
    """One email as the provider takes it: encoded before the gate, so that nothing is left to do behind it."""

    email_id: str  #: what a provider with idempotency keys would be given; SendGrid has none
    body: bytes
    is_sandbox: bool = False  #: checked by the provider, not sent


class Provider(Protocol):
    """Takes emails from us. One call each, with no retry inside: a second call may be a second mail."""

    def prepare(self, request: EmailRequest, *, email_id: str, attempt: int, nonce: str) -> Mail:
        """Encode an email with the marks by which the provider's events find it again. No I/O."""

    async def send(self, mail: Mail, gate: Gate | None = None) -> ProviderAnswer:
        """Make one call of at most 18 s, the wait at the gate not counted.

        When the gate says no, no byte leaves and the answer is Withheld.
        """

    async def probe(self, gate: Gate | None = None) -> ProviderAnswer:
        """Ask whether the account works, without sending anything; 200 is healthy. It passes the gate as a mail does."""

    def use_key(self, api_key: SecretStr) -> None:
        """Use this key from the next call on: a rotation needs no restart."""

    async def close(self) -> None:
        """End all connections; calls under way are cut off."""
