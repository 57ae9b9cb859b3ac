"""What makes Faust 0.15.3 safe here; each guard with the loss or wedge that it stops (faust.md).

Private API in use, hence the exact pins of faust-streaming, mode-streaming and aiokafka:
``App._consumer_wait_empty``, ``App._on_partitions_assigned``, ``Consumer._committed_offset``,
``Consumer._unacked_messages``, ``AIOKafkaConsumerThread._create_worker_consumer`` and ``_commit``,
aiokafka's ``_client._metadata_update``, ``_isolation_level`` and ``_fetch_max_wait_ms``, and what ``membership.py`` names.
"""

import asyncio
import os
import ssl
import threading
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import faust
import structlog
from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from mailstream.clock import boot_time
from mailstream.errors import LogLost
from mailstream.settings import Settings
from mailstream.topics import Naming
from streams import drain_loop, holes, membership
from streams.core.acks import Acks, Slot
from streams.metrics import LOST_RECORDS

log = structlog.get_logger(__name__)
AppKind = TypeVar("AppKind", bound="GuardedApp")

COMMIT_SECONDS = 1.0  #: how often finished heads are committed; what a kill -9 reads again
DRAIN_SECONDS = 20.0  #: longest call (18 s, G1) < this < rebalance timeout
STOP_SECONDS = 25.0  #: for a whole stop, drain included; then the process ends with 1, which is crash-safe
REBALANCE_SECONDS = 60.0
METADATA_MS = 5_000
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
    """Faust's consumer thread: reads committed records only, survives a failed commit, and tells how it stands in its group."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        # an event of a rolled-back transaction must not send mail (amendment 18); Faust has no setting for it
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
        crashed (SIGSEGV in uvloop) or hung until STOP_SECONDS.
        """

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek to what was committed, and where nothing was, to the beginning.

        Stock stays there where it is: behind records that it fetched and threw away while recovery ended. They were
        never read again, and the next commit passed them.
        """
        committed: Mapping[TP, int] = await self.call_thread(self._seek_back)
        return committed

    async def _seek_back(self) -> Mapping[TP, int]:
        consumer = self._ensure_consumer()
        committed: Mapping[TP, int] = await consumer.seek_to_committed()
        changelogs = self.app.tables.changelog_topics
        unread = [tp for tp, offset in committed.items() if not offset and tp.topic not in changelogs]
        if unread:
            await consumer.seek_to_beginning(*unread)
        return committed

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit; a failure costs only a second reading. Stock crashes the app here."""
        mine = {TopicPartition(*tp): OffsetAndMetadata(n, "") for tp, n in offsets.items() if tp in self.assignment()}
        if not mine:
            return False
        try:
            await self._ensure_consumer().commit(mine)
        except Exception as error:
            log.warning("commit failed, the records are read again", error=type(error).__name__)
            return False
        return True


class Consumer(drain_loop.Consumer):
    """Faust's consumer on this thread."""

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)


class Transport(driver.Transport):  # type: ignore[misc]
    """Faust's aiokafka transport with this consumer."""

    Consumer = Consumer


class GuardedApp(faust.App):  # type: ignore[misc]
    """A Faust app that commits only finished heads, drains within bounds, and knows how fresh its membership is."""

    def __init__(self, *args: Any, settings: Settings, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.mailstream_settings = settings
        self.acks: Acks[TP] = Acks()
        self.lost_logs: dict[TP, str] = {}  #: partitions that lost records before they were read, and what to do
        self.is_draining = True  #: start nothing new
        self.has_failed = False  #: the process ends: nothing new is started again, also when partitions come
        self.drains = 0  #: how many there were: a record that was read before one is not worked on after it
        self.heard_at = 0.0  #: boot time at which the group certainly knew this member (``membership.note``)
        #: Awaited at each assignment, with the generation of the group, before the agents start.
        self.on_load: list[Callable[[set[TP], int], Awaitable[None]]] = []
        self.on_drain: list[Callable[[], Awaitable[None]]] = []  #: awaited on revoke and stop, within DRAIN_SECONDS
        self._committed: dict[TP, int] = {}
        self._commits: asyncio.Future[None] | None = None
        self.on_rebalance_complete.connect(self._hold_flow)

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)

    def admit_next(self, tp: TP, offset: int) -> Slot[TP] | None:
        """The same as ``admit`` for a record that follows on the one before; None: ask ``admit``."""
        if self.is_draining or tp in self.lost_logs or self.acks.last(tp) != offset - 1:
            return None
        return self.acks.add(tp, offset)

    async def admit(self, tp: TP, offset: int) -> Slot[TP] | None:
        """Register a record before anything is done with it. None: a repeat, or a drain is on; skip it.

        Raises OffsetGap if Faust skipped records: let it end the process; LogLost if some were deleted before they were
        read: go on with ``lose_log``.
        """
        if self.is_draining or tp in self.lost_logs:
            return None
        drains = self.drains
        last = self.acks.last(tp)
        expected = self.consumer._committed_offset[tp] if last is None else last + 1
        if not expected and offset:  # nothing was committed yet: then reading begins with the first that is kept
            expected = await holes.first_kept(self.mailstream_settings, tp)
            if self.is_draining or self.drains != drains:
                return None
        if expected is not None and offset > expected:
            # markers of transactions and compacted records leave holes that nobody ever reads (amendment 18)
            await holes.require_empty(self.mailstream_settings, tp, expected, offset)
            if self.is_draining or self.drains != drains:
                return None
            self.acks.skip_to(tp, offset)
        return self.acks.add(tp, offset)

    def lag(self, tp: TP) -> int:
        """Records of an assigned partition that are not acked: not read yet, as far as the last fetch told, or in work."""
        if tp not in self.consumer.assignment():
            return 0
        end, last = self.consumer.highwater(tp) or 0, self.acks.last(tp)
        if last is None:
            last = (self.consumer._committed_offset[tp] or end) - 1
        return max(0, end - 1 - last) + self.acks.unfinished(tp)

    def lose_log(self, tp: TP, error: LogLost) -> None:
        """Take nothing more of this partition until an operator gives up what it lost: nothing of it is committed."""
        log.error("requests or events were lost", what=str(error), partition=tp.partition, records=error.records)
        self.lost_logs[tp] = str(error)
        LOST_RECORDS.labels(tp.topic, str(tp.partition)).set(error.records)

    async def _consumer_wait_empty(self, consumer: Any, logger: Any) -> None:
        """Runs on every revoke and on stop, after the flow stopped and the queues were cleared.

        Replaces ``stream_wait_empty``, whose wait has no limit, and commits what Faust forgets at a revoke.
        """
        self.is_draining = True
        self.drains += 1
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                for drain in self.on_drain:
                    await drain()
        except TimeoutError:
            log.warning("drain ended by its limit", seconds=DRAIN_SECONDS)
        await self._commit_heads(consumer, seconds=5.0)
        self.acks.forget()
        self._committed.clear()
        consumer._unacked_messages.clear()

    async def _commit_heads(self, consumer: Any, seconds: float) -> None:
        assigned = consumer.assignment()
        heads = {tp: n for tp, n in self.acks.committable().items() if tp in assigned and self._committed.get(tp) != n}
        if not heads:
            return
        try:
            if await asyncio.wait_for(consumer._commit(heads), seconds):
                self._committed.update(heads)
        except Exception as error:  # what is not committed is read again and known again
            log.warning("commit failed, the records are read again", error=type(error).__name__)

    async def _commit_regularly(self) -> None:
        while not self.should_stop:
            await asyncio.sleep(COMMIT_SECONDS)
            if not self.is_draining and self._consumer is not None:
                await self._commit_heads(self.consumer, seconds=30.0)

    async def _hold_flow(self, *_: Any, **__: Any) -> None:
        """Recovery is over; Faust will seek and then clear its queues: nothing may be delivered between (issue 596).

        Faust resumes both by itself after the seek.
        """
        self.consumer.stop_flow()
        self.flow_control.suspend()

    async def _on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self.acks.forget()
        for tp in self.lost_logs:
            LOST_RECORDS.remove(tp.topic, str(tp.partition))
        self.lost_logs.clear()  # what is still so is found out again
        self.is_draining = self.has_failed
        if self._commits is None:
            self._commits = self.add_future(self._commit_regularly())
        await super()._on_partitions_assigned(assigned, generation_id)

    def fail(self, error: BaseException) -> None:
        """Start nothing any more and end the process with exit 1, because of a bug or of a log that is lost to us.

        Everything is crash-safe: nothing is lost.
        """
        self._end(error)
        self.add_future(self.crash(error))

    def _crash(self, reason: BaseException) -> None:
        if not self.has_failed:  # a part of Faust or of ours has crashed
            self._end(reason)
        super()._crash(reason)

    def _end(self, error: BaseException) -> None:
        log.error("the worker ends", error=str(error) or repr(error), exc_info=error)
        self.has_failed = self.is_draining = True

    async def on_stop(self) -> None:
        """Stop within STOP_SECONDS: Faust and aiokafka wait for an absent broker without limit."""
        if self.in_worker:
            timer = threading.Timer(STOP_SECONDS, _give_up)  # the loop itself may be what does not go on
            timer.daemon = True
            timer.start()
        await super().on_stop()

    def membership_age(self) -> float:
        """Seconds since the group coordinator last confirmed this member, time asleep included."""
        return boot_time() - self.heard_at


def _give_up() -> None:
    log.error("stop took too long, the process ends; nothing is lost", seconds=STOP_SECONDS)
    os._exit(1)


def make_app(settings: Settings, name: str, kind: type[AppKind] = GuardedApp, **overrides: Any) -> AppKind:
    """A guarded app with settings that neither lose mail nor wedge (faust.md §3); others by ``overrides``."""
    full_name = Naming(settings.topic_prefix).of(name)
    datadir = Path(settings.data_dir, "faust", full_name)  # Faust wants one, though nothing is kept there
    datadir.mkdir(parents=True, exist_ok=True)
    conf: dict[str, Any] = {
        "broker": [f"kafka://{broker.strip()}" for broker in settings.kafka_bootstrap.split(",")],
        "broker_credentials": credentials(settings),
        "store": "statuses://",  # streams/statuses/store.py; nothing of it outlives the process
        "table_standby_replicas": 0,  # a standby in memory is thrown away at promotion
        "topic_allow_declare": False,
        "topic_disable_leader": True,
        "web_enabled": False,  # else 0.0.0.0:6066 serves table data
        "stream_wait_empty": False,  # its wait has no limit
        "consumer_auto_offset_reset": "earliest",
        # a broker that has just come back does not name our topics yet, and whoever assigns then assigns nothing: it sees
        # that, and assigns again, with its next look at them; the default lets that be five minutes
        "consumer_metadata_max_age_ms": METADATA_MS,
        "broker_commit_interval": 3600.0,  # commits are ours
        "broker_session_timeout": settings.session_timeout,
        "broker_heartbeat_interval": settings.session_timeout / 10,
        "broker_rebalance_timeout": REBALANCE_SECONDS,
        "broker_request_timeout": max(60.0, settings.session_timeout),
        "broker_max_poll_interval": 2_592_000.0,  # 30 days: a paced worker must not leave its group, silently, for ever
        "broker_max_poll_records": 500,
        "stream_buffer_maxsize": 32,  # batches: each of one partition, at most 500 records and about a megabyte
        "producer_acks": -1,
        "producer_request_timeout": 30.0,
        "datadir": str(datadir),
        "canonical_url": f"http://{settings.worker_id}.mailstream",  # stable, or a static member wedges on its return
    }
    if settings.static_membership:
        conf["consumer_group_instance_id"] = settings.worker_id
    return kind(full_name, settings=settings, **{**conf, **overrides})


def credentials(settings: Settings) -> Any:
    """Faust's form of the Kafka security settings; None for PLAINTEXT."""
    if settings.kafka_security_protocol == "PLAINTEXT":
        return None
    context = None
    if settings.kafka_security_protocol.endswith("SSL"):
        context = ssl.create_default_context(cafile=settings.kafka_ssl_ca_location)
        if settings.kafka_ssl_certificate_location:
            context.load_cert_chain(settings.kafka_ssl_certificate_location, settings.kafka_ssl_key_location)
    if settings.kafka_security_protocol == "SSL":
        return faust.SSLCredentials(context=context)
    password = settings.kafka_sasl_password
    return faust.SASLCredentials(
        mechanism=settings.kafka_sasl_mechanism,
        username=settings.kafka_sasl_username,
        password=password.get_secret_value() if password else None,
        ssl_context=context,
    )
