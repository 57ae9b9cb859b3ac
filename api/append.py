"""One record into the log, within the time that a caller waits for an answer."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from api.problems import Code, Problem
from api.view.lookup import Lookup
from mailstream.domain.codec import Header
from mailstream.domain.errors import NotPublished
from mailstream.kafka.producer import Position, Publisher

#: A caller gets its answer within two seconds, with or without brokers.
SECONDS = 1.9
IN_FLIGHT = 10_000


@dataclass(slots=True)
class Append:
    """Writes records; callable."""

    publisher: Publisher
    lookup: Lookup

    async def __call__(
        self, topic: str, value: bytes | None, *, key: bytes, partition: int, headers: Sequence[Header] = ()
    ) -> Position:
        """Append one record. Raises Problem 503 when it is not acknowledged in time, or too many wait already.

        Raises NotCaughtUp before the topics have been checked.
        """
        self.lookup.require_checked()
        if self.publisher.pending() >= IN_FLIGHT:
            raise Problem(Code.SATURATED, "Too many records wait for Kafka's acknowledgement. Nothing was accepted.")
        done = self.publisher.send(topic, value, key=key, partition=partition, headers=headers)
        # A timer instead of asyncio.timeout, which costs several times as much for each email.
        timer = asyncio.get_running_loop().call_later(SECONDS, _give_up, done)
        try:
            return await done
        except NotPublished:
            raise Problem(
                Code.NOT_ACKNOWLEDGED,
                "It may or may not be in the log. Ask again, with the same Idempotency-Key: it is done once.",
            ) from None
        finally:
            timer.cancel()


def _give_up(done: "asyncio.Future[Position]") -> None:
    if not done.done():
        done.set_exception(NotPublished("not acknowledged in time"))
