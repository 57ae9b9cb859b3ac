"""Which addresses get no mail: a read replica of ``email.suppressions``, asked right before the claim."""

import asyncio
from collections.abc import Callable, Sequence

from confluent_kafka import OFFSET_BEGINNING, Message

from mailstream.domain import topics
from mailstream.domain.errors import BadAddress, NotCaughtUp
from mailstream.domain.recipient import canonical
from mailstream.domain.request import EmailRequest
from mailstream.domain.suppression import key_of
from mailstream.kafka.kafka import Kafka
from mailstream.kafka.tail import End

LOAD_SECONDS = 60.0


class Suppressions:
    """All partitions: cc and bcc addresses belong to others than the email's own. Make it inside the loop.

    ``failed`` is told once when the topic can no longer be followed: what is suppressed from then on is unknown.
    """

    def __init__(self, kafka: Kafka, failed: Callable[[Exception], None]) -> None:
        self._topic, self._partitions, self._failed = (
            kafka.name_of(topics.SUPPRESSIONS),
            kafka.settings.partitions,
            failed,
        )
        self._keys: set[bytes] = set()
        self._loading = set(range(self._partitions))
        self._loaded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tail = kafka.tail(self._take, name="suppressions", failed=self._fail)

    async def load(self) -> None:
        """Return when all that was suppressed before is known. Raises NotCaughtUp."""
        await self._tail.follow((self._topic, partition, OFFSET_BEGINNING) for partition in range(self._partitions))
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                await self._loaded
        except TimeoutError:
            raise NotCaughtUp(f"{self._topic} could not be read in {LOAD_SECONDS:.0f} s; nothing was sent") from None

    def reason(self, tenant: str, request: EmailRequest) -> str | None:
        """Why the mail must not go: its recipient, a cc or a bcc is suppressed. None: it may."""
        if not self._keys:
            return None
        for kind, addresses in (("recipient", (request.to,)), ("cc", request.cc), ("bcc", request.bcc)):
            for address in addresses:
                try:
                    key = key_of(tenant, canonical(address.email))
                except BadAddress:
                    continue
                if key in self._keys:
                    return f"the {kind} is on the suppression list"
        return None

    async def close(self) -> None:
        """Stop following."""
        await self._tail.close()

    def _fail(self, error: Exception) -> None:
        if not self._loaded.done():
            self._loaded.set_exception(error)
        self._failed(error)

    def _take(self, batch: Sequence[Message | End]) -> None:
        for entry in batch:
            if isinstance(entry, End):
                self._loading.discard(entry.partition)
                if not self._loading and not self._loaded.done():
                    self._loaded.set_result(None)
            elif entry.value() is None:
                self._keys.discard(entry.key() or b"")
            else:
                self._keys.add(entry.key() or b"")
