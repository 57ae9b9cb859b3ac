"""The transport ``guarded://``: Faust's own for Kafka, with consumers that lose no record and tell what they know."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from streams.faust_guards import membership
from streams.faust_guards.batches import BatchConsumer

FETCH_WAIT_MS = 100
VAIN_SECONDS = 0.25  #: after no broker answered, until the next one is asked


def be_patient(client: Any) -> None:
    """Let an aiokafka client rest between two vain questions for metadata.

    Stock asks again at once while a partition is known to have no leader: a broker that was shut down, and refuses
    connections now, took half a core.
    """
    ask: Callable[[Any, Any], Awaitable[bool]] = client._metadata_update

    async def ask_patiently(cluster: Any, topics: Any) -> bool:
        if not (is_answered := await ask(cluster, topics)):
            await asyncio.sleep(VAIN_SECONDS)
        return is_answered

    client._metadata_update = ask_patiently


class ConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Faust's consumer thread, for a ``GuardedApp``."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        # an event of a rolled-back transaction must not send mail; Faust has no setting for it
        consumer._isolation_level = "read_committed"
        # an empty fetch keeps the connection for itself; what an assignment asks waits behind three of them, one after
        # the other, and Faust has 1.5 s each
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        return consumer

    async def on_start(self) -> None:
        """Start the consumer, then listen to its group."""
        await super().on_start()
        consumer = self._ensure_consumer()
        be_patient(consumer._client)
        if consumer._coordinator is not None:
            membership.note(consumer._coordinator, self._heard)
            membership.watch(consumer, partial(self.parent_loop.call_soon_threadsafe, self.app.fail))

    def _heard(self, at: float) -> None:
        self.app.heard_at = at

    def close(self) -> None:
        """Do nothing: ``on_thread_stop`` leaves the group and closes the connections, in the thread that they belong to.

        Stock, called when an assignment comes while the app stops, closes them from the main loop: the process then
        crashed (SIGSEGV in uvloop) or hung until the limit of its stop.
        """

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek to what was committed, and where nothing was, to the beginning.

        Stock stays there where it is: behind records that it fetched and threw away while recovery ended. They were
        never read again, and the next commit passed them.
        """
        committed: Mapping[TP, int] = await super().seek_to_committed()
        changelogs = self.app.tables.changelog_topics
        unread = [tp for tp, offset in committed.items() if not offset and tp.topic not in changelogs]
        if unread:
            await self.seek_to_beginning(*unread)
        return committed

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit what is still ours. A failure is the caller's, and costs a second reading; stock crashes the app here."""
        mine = {TopicPartition(*tp): OffsetAndMetadata(n, "") for tp, n in offsets.items() if tp in self.assignment()}
        if mine:
            await self._ensure_consumer().commit(mine)
        return bool(mine)


class Consumer(BatchConsumer):
    """Faust's consumer on this thread."""

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)


class Transport(driver.Transport):  # type: ignore[misc]
    """Faust's aiokafka transport with this consumer."""

    Consumer = Consumer
