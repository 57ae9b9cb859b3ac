"""Where does an email stand: the view of ``email.status`` and, behind it, the requests that no worker has read yet.

None means "was not in the log when you asked": a miss waits for two ends of the log, in this order.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

import structlog
from confluent_kafka import Message

from api.metrics import Metrics
from api.view.background import begun
from api.view.batches import Batches
from api.view.bodies import Bodies
from api.view.brief import Seen
from api.view.pending import UnreadRequests
from api.view.progress import Progress
from api.view.statuses import StatusView
from mailstream.clock import Clock
from mailstream.domain import topics
from mailstream.domain.errors import NoKafka, NotCaughtUp, TopicsDiffer
from mailstream.domain.packed import Packer
from mailstream.domain.status import EmailStatus
from mailstream.kafka.offsets import LogEnds
from mailstream.kafka.tail import End, Tail
from mailstream.settings import Settings

_log = structlog.get_logger(__name__)
_BEGINNING = -2
UPKEEP_SECONDS = 5.0
#: So long the start waits for the brokers; then the process serves its probes, and goes on asking.
START_SECONDS = 3.0
RETRY_SECONDS = 1.0
#: The view may be this much behind while an email is watched, and while none is: a miss ends the patience at once.
WATCHED_SECONDS, PATIENCE_SECONDS = 0.005, 0.025


class _Batch(NamedTuple):
    """Records of all topics in log order, and the values of the statuses among them as they are kept."""

    records: Sequence[Message | End]
    packed: list[bytes]


#: Called with each change of an email, for what is kept beside the statuses: before and after; None: unknown.
Follower = Callable[[bytes, Seen | None, Seen | None], None]


class Lookup:
    """Make it inside the running loop, then ``start`` it."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        metrics: Metrics,
        *,
        bodies: Bodies,
        also: Mapping[str, Callable[[bytes, bytes | None], None]],
        failed: Callable[[Exception], None],
    ) -> None:
        """``also``: further topics to read from their beginning, and what takes their records (key, value).

        ``failed`` is told once when the log cannot be followed any more, or the topics are not what emails were made for.
        """
        naming = topics.Naming(settings.topic_prefix)
        self.is_loaded = False
        #: ends when the topics are followed, or with why they are not what emails were made for
        self._begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._is_stopping = False
        self.progress = Progress()
        self.view = StatusView()
        self.requested, self.status = naming.of(topics.REQUESTED), naming.of(topics.STATUS)
        self.unread = UnreadRequests(self.requested, settings.partitions, self.view.__contains__, bodies.remember)
        self._batches = Batches()
        self._followers: list[Follower] = [self._batches.changed]
        self._watchers: dict[bytes, set[Callable[[], None]]] = {}
        self._also = also
        self._group = naming.of(topics.GROUP_WORKER)
        self._clock, self._metrics = clock, metrics
        self._ends = LogEnds(settings)
        self._tail = Tail(
            settings, self._apply, name="lookup", failed=failed, patience=self._patience, prepare=self._packed
        )
        self._failed = failed
        self._packer = Packer()  #: of the tail's thread
        self._upkeep: asyncio.Task[None] | None = None
        self._barrier: asyncio.Task[None] | None = None
        self._next_barrier: asyncio.Task[None] | None = None
        self._shown_at = clock.monotonic()

    async def start(self, check: Callable[[], None], loaded: Callable[[], None]) -> None:
        """Begin to follow the log; ``is_loaded`` tells when there is something to see. Raises TopicsDiffer.

        ``check`` is asked first, on a thread: it raises NoKafka or TopicsDiffer. While no broker answers this goes on
        in the background. ``loaded`` is called when all that was in the log at the start has been told.
        """
        self._upkeep = begun(self._begin_and_keep_up(check, loaded), self._failed)
        await asyncio.wait({self._begun}, timeout=START_SECONDS)
        if self.refused is not None:
            raise self.refused

    @property
    def refused(self) -> BaseException | None:
        """Why the topics are not what emails were made for: the process must end."""
        return self._begun.exception() if self._begun.done() else None

    async def _begin_and_keep_up(self, check: Callable[[], None], loaded: Callable[[], None]) -> None:
        while not self._begun.done():
            try:
                await asyncio.to_thread(check)
                await self._begin()
            except (NoKafka, NotCaughtUp) as error:
                _log.warning("lookup.kafka_away", error=str(error))
                await self._clock.sleep(RETRY_SECONDS)
            except TopicsDiffer as error:
                self._begun.set_exception(error)
                raise
            else:
                self._begun.set_result(None)
        await self._keep_up(loaded)

    async def _begin(self) -> None:
        # In this order: what was committed has its status in front of the ends that are asked afterwards.
        committed = await self._ends.committed(self.requested, self._group)
        first = await self._ends.first(self.requested)
        whole = [part for topic in (self.status, *self._also) for part in await self._ends.first(topic)]
        await self._tail.follow(
            [(topic, partition, _BEGINNING) for topic, partition in whole]
            + [(topic, partition, max(begin, committed.get((topic, partition), 0)))
               for (topic, partition), begin in first.items()]
        )  # fmt: skip

    def stop_waiting(self) -> None:
        """End all waits for a change: the process stops."""
        self._is_stopping = True
        for watchers in tuple(self._watchers.values()):
            for watcher in tuple(watchers):
                watcher()

    async def close(self) -> None:
        """Stop following."""
        tasks = [task for task in (self._upkeep, self._barrier, self._next_barrier) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._tail.close()

    def follow(self, follower: Follower) -> None:
        """Tell ``follower`` of every change. Before ``start``."""
        self._followers.append(follower)

    @contextmanager
    def watched(self, key: bytes, watcher: Callable[[], None]) -> Iterator[None]:
        """Call ``watcher`` after each change of this email."""
        watchers = self._watchers.setdefault(key, set())
        watchers.add(watcher)
        try:
            yield
        finally:
            watchers.discard(watcher)
            if not watchers:
                del self._watchers[key]

    def require_checked(self) -> None:
        """Raises NotCaughtUp until the topics have been checked: nothing may be written before."""
        if not self._begun.done() or self.refused is not None:
            raise NotCaughtUp("no broker has answered since the start")

    def require_loaded(self) -> None:
        """Raises NotCaughtUp while loading: half loaded, a view could be older than what another replica has shown."""
        if not self.is_loaded:
            raise NotCaughtUp("the view is loading")

    def has(self, key: bytes) -> bool:
        """Whether anything is known of this id."""
        return key in self.view or key in self.unread

    def known(self, key: bytes) -> EmailStatus | None:
        """What can be said at once; None does not prove that it is unknown. Raises NotCaughtUp while loading."""
        self.require_loaded()
        return self.view.get(key) or self.unread.get(key)

    def fingerprint_of_batch(self, batch_id: str) -> str | None:
        """Of the body that a batch was asked for with; None does not prove that it was not. Raises NotCaughtUp."""
        self.require_loaded()
        return self._batches.fingerprint(batch_id) or self.unread.claimed(batch_id)

    async def find(self, email_id: str, tenant: str, *, seconds: float = 2.0) -> EmailStatus | None:
        """The status of a tenant's email; None: the log did not have it. Raises NotCaughtUp.

        Another tenant's email takes as long as an unknown one.
        """
        key = email_id.encode()
        if (found := self.known(key)) is not None and found.tenant == tenant:
            return found
        await self.barrier(seconds)
        found = self.known(key)
        return found if found is not None and found.tenant == tenant else None

    async def settle(
        self, key: bytes, is_settled: Callable[[EmailStatus], bool], *, seconds: float
    ) -> EmailStatus | None:
        """Wait until the email is as it should be, at most that long; returns it as it is then."""
        changed = asyncio.Event()
        with self.watched(key, changed.set), suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while (status := self.known(key)) is not None and not is_settled(status) and not self._is_stopping:
                    changed.clear()
                    await changed.wait()
        return self.known(key)

    async def barrier(self, seconds: float = 2.0) -> None:
        """Wait until the view shows all that was in the log at this moment. Raises NotCaughtUp.

        Callers that come while the ends are being asked share the next question, so that misses cost the brokers only
        one question at a time.
        """
        self.require_loaded()
        if self._next_barrier is None:
            self._next_barrier = asyncio.create_task(self._pass_barrier(self._barrier), name="lookup-barrier")
            self._next_barrier.add_done_callback(_take_note)
        try:
            async with asyncio.timeout(seconds):
                await asyncio.shield(self._next_barrier)
        except TimeoutError:
            raise NotCaughtUp("the view has not come as far as the log") from None

    async def reach_end(self, topic: str, seconds: float = 2.0) -> None:
        """Wait until all that was in one of the further topics at this moment has been taken. Raises NotCaughtUp."""
        self.require_loaded()
        try:
            async with asyncio.timeout(seconds):
                await self._reach(topic)
        except TimeoutError:
            raise NotCaughtUp("the view has not come as far as the log") from None

    async def _reach(self, *followed: str) -> None:
        """Wait until all that is in these topics when their turn comes has been taken, one after the other."""
        for topic in followed:
            await self.progress.reach(await self._ends.high(topic))

    async def _pass_barrier(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        self._barrier, self._next_barrier = self._next_barrier, None  # who comes now waits for the next question
        # All partitions: a strict batch may lie in another one than its emails.
        async with asyncio.timeout(5.0):
            await self._reach(self.requested, self.status)

    def _patience(self) -> float:
        """On the tail's thread: let more records come while no caller waits for one. Waking the loop is what they cost."""
        self.progress.awaited.wait(WATCHED_SECONDS if self._watchers else PATIENCE_SECONDS)
        return 0.0

    def _packed(self, batch: Sequence[Message | End]) -> _Batch:
        """On the tail's thread: a million are packed at the start, while the loop takes in those before."""
        values = [each.value() for each in batch if isinstance(each, Message) and each.topic() == self.status]
        return _Batch(batch, self._packer.pack_all([value for value in values if value]))

    def _apply(self, batch: _Batch) -> None:
        packed, followed = iter(batch.packed), self.status
        reached: dict[tuple[str, int], int] = {}
        for message in batch.records:
            if isinstance(message, End):
                reached[message.topic, message.partition] = message.offset
                continue
            topic, key, value = message.topic() or "", message.key() or b"", message.value()
            if topic == followed:
                self._take_status(key, value, next(packed) if value else b"")
            elif (take := self._also.get(topic)) is not None:
                take(key, value)
            else:
                for asked in self.unread.apply(message):
                    self._changed(asked, None, self.unread.get(asked))
            reached[topic, message.partition() or 0] = (message.offset() or 0) + 1
        for partition, offset in reached.items():
            self.progress.advance(partition, offset)

    def _take_status(self, key: bytes, value: bytes | None, packed: bytes) -> None:
        change = self.view.apply(key, value, packed)
        unread = self.unread.pop(key)
        if change is not None:
            before, after = change
            self._changed(key, before or unread, after)

    def _changed(self, key: bytes, before: Seen | None, after: Seen | None) -> None:
        for follower in self._followers:
            follower(key, before, after)
        if key in self._watchers:
            for watcher in tuple(self._watchers[key]):
                watcher()

    async def _keep_up(self, loaded: Callable[[], None]) -> None:
        """Load, then drop what workers have read, and measure how old the view is."""
        while True:
            asked_at = self._clock.monotonic()
            try:
                committed = await self._ends.committed(self.requested, self._group)
                # Requests first: an item of a batch that is done has its own record in front of these ends.
                await self._reach(self.requested, self.status, *(() if self.is_loaded else self._also))
            except NotCaughtUp as error:
                _log.warning("lookup.kafka_away", seconds=round(self.age_seconds(), 1), error=str(error))
            else:
                for key, status in self.unread.pop_read(committed, self._clock.now()):
                    self._changed(key, status, None)
                self._shown_at = asked_at
                if not self.is_loaded:
                    self.is_loaded = True
                    loaded()
                    _log.info("lookup.loaded", emails=len(self.view), unread=len(self.unread))
            self._metrics.view_emails.set(len(self.view))
            self._metrics.unread.set(len(self.unread))
            self._metrics.view_lag_seconds.set(self.age_seconds())
            await self._clock.sleep(UPKEEP_SECONDS if self.is_loaded else 0.2)

    def age_seconds(self) -> float:
        """Age of the newest moment that the view is known to show."""
        return self._clock.monotonic() - self._shown_at


def _take_note(task: asyncio.Task[None]) -> None:
    """Those who waited have been told of its error; when all have left, it is of no use."""
    if not task.cancelled():
        task.exception()
