"""Everything of a worker that is not Faust, and how it is put together."""

import asyncio
import uuid
from collections.abc import Coroutine
from typing import Any

import structlog
from faust.types import TP
from pydantic import SecretStr

from mailstream import topics
from mailstream.clock import Clock
from mailstream.email_id import partition_in
from mailstream.log.brokers_clock import BrokersClock
from mailstream.log.kafka import Kafka
from mailstream.status import Coordinates, EmailStatus, Status
from mailstream.templates import Templates
from mailstream.topics import Naming
from streams import sendgrid_key
from streams.accept import Accept
from streams.barrier import Barrier
from streams.bodies import Bodies
from streams.claim_log import ClaimLog
from streams.cold_statuses import ColdStatuses
from streams.cold_waiting import ColdWaiting
from streams.controls import Controls
from streams.core.groups import Groups
from streams.core.pace import Pace
from streams.core.rules import Rules
from streams.core.schedule import Schedule
from streams.core.trouble import Trouble
from streams.core.webhook_health import WebhookHealth
from streams.digests import Digests
from streams.dispatch import Dispatch
from streams.failpoints import failpoint
from streams.feedback import Feedback
from streams.gate import Gate, look
from streams.guards import GuardedApp
from streams.holds import Holds
from streams.metrics import BACKLOG, CLOCK_ERROR, LAG, OLDEST, PAUSED
from streams.ownership import STUCK_SECONDS, Ownership
from streams.projection import Projection
from streams.provider.port import Provider
from streams.provider.sendgrid import SendGrid
from streams.rebuild import Rebuild
from streams.rendering import Rendering
from streams.scratch import Scratch, folder_in
from streams.sending import Sending
from streams.suppressions import Suppressions
from streams.table import StatusTable
from streams.topics_watch import TopicsWatch
from streams.trigger_app import Triggers
from streams.upkeep import Upkeep

log = structlog.get_logger(__name__)

#: How many statuses, and emails in the schedule, are in memory.
HOT_STATUSES, HOT_EMAILS = 20_000, 40_000
READ_AHEAD = 2000  #: bodies of due emails that are read together


def _clock_looked(seconds: float, why: str | None) -> None:
    CLOCK_ERROR.set(seconds)
    PAUSED.labels("clock").set(0 if why is None else 1)


class Parts:
    """Everything of a worker that is not Faust."""

    def __init__(
        self,
        app: GuardedApp,
        kafka: Kafka,
        *,
        clock: Clock,
        table: StatusTable,
        rendering: Rendering,
        rules: tuple[Rules, Templates] | None,
        request_retention: float,
    ) -> None:
        """Make it inside the running loop. ``request_retention``: seconds that a broker keeps ``email.requested``."""
        settings = app.mailstream_settings
        naming = Naming(settings.topic_prefix)
        boot = uuid.uuid4().hex[:16]
        writer = f"{settings.worker_id}/{boot}"
        self._app, self._settings = app, settings
        self._tasks: set[asyncio.Task[Any]] = set()
        self._change: asyncio.Future[None] | None = None  #: of the partitions, while one is under way
        self._is_closing = False
        self._partitions: frozenset[int] = frozenset()
        self.topics_watch = TopicsWatch(kafka, clock)
        self._generation = 0
        self._had_some = False  #: whether it owned partitions in that generation
        self.table = table
        self.publisher = kafka.producer(
            failed=app.fail,
            message_seconds=min(10.0, settings.session_timeout / 3),
            # a claim may take a millisecond more; a request to the broker then holds several records
            **{"linger.ms": 1},
        )
        self.clock = clock = BrokersClock(
            clock, self.publisher, naming.of(topics.REQUESTED), alarm="nothing is sent", looked=_clock_looked
        )
        self._clock: Clock = clock
        self._scratch = Scratch(folder_in(settings), app.fail)
        self.table.set_up(
            self.publisher,
            naming.of(topics.STATUS),
            settings.partitions,
            ColdStatuses(self._scratch),
            most_hot=HOT_STATUSES,
        )
        self.table.rebalanced = self._rebalanced
        self.projection = Projection(self.table, writer, self._changed)
        self.claim_log = ClaimLog(
            self.publisher, naming.of(topics.ATTEMPTS), self.projection, clock, worker=writer, boot=boot
        )
        self.schedule = Schedule(
            recipient_gap=settings.recipient_gap, cold=ColdWaiting(self._scratch), most_hot=HOT_EMAILS
        )
        self.pace = Pace(gap=settings.send_gap, burst=settings.send_burst, partitions=settings.partitions)
        self.trouble, self.webhook_health = Trouble(), WebhookHealth()
        self.bodies = Bodies(kafka)
        self.bodies.due_next = self._due_next
        self.groups = Groups()
        self.suppressions = Suppressions(kafka, app.fail)
        assert settings.sendgrid_api_key is not None
        assert settings.sender is not None
        self.provider: Provider = SendGrid(settings.sendgrid_url, settings.sendgrid_api_key, sender=settings.sender)
        self.sending = Sending(
            settings,
            table=self.table,
            bodies=self.bodies,
            rendering=rendering,
            suppressions=self.suppressions,
            groups=self.groups,
            digests=Digests(self.groups, self.table, self.bodies, rendering, self.claim_log, self.schedule, clock),
            claim_log=self.claim_log,
            pace=self.pace,
            gate=Gate(self.pace, self.closed),
            provider=self.provider,
            trouble=self.trouble,
            clock=clock,
        )
        self.dispatch = Dispatch(
            settings,
            schedule=self.schedule,
            pace=self.pace,
            sending=self.sending,
            claim_log=self.claim_log,
            table=self.table,
            bodies=self.bodies,
            publisher=self.publisher,
            trouble=self.trouble,
            clock=clock,
            closed=self.closed,
            failed=app.fail,
        )
        ends = kafka.ends(seconds=STUCK_SECONDS)
        self.barrier = Barrier(
            kafka, self.table, ends, bar=self.dispatch.bar, unbar=self.dispatch.unbar, head=app.acks.head
        )
        self.holds = Holds(
            settings,
            self.table,
            self.claim_log,
            clock,
            self.webhook_health,
            self.dispatch.resend,
            is_assigned=lambda: bool(self._partitions),
            is_barred=self.dispatch.is_barred,
        )
        controls = Controls(
            self.table,
            self.projection,
            self.claim_log,
            clock,
            give_back=self.sending.give_back,
            resend=self.dispatch.resend,
            bar=self.dispatch.bar,
            unbar=self.dispatch.unbar,
            groups=self.groups,
        )
        self.accept = Accept(
            kafka,
            publisher=self.publisher,
            table=self.table,
            projection=self.projection,
            bodies=self.bodies,
            rendering=rendering,
            controls=controls,
            groups=self.groups,
            clock=clock,
            spawn=self.spawn,
        )
        self.triggers: Triggers | None = None
        if rules is not None:
            self.triggers = Triggers(settings, self.publisher, *rules, clock, app.fail)
        self.feedback = Feedback(self.table, self.projection, self.webhook_health, clock)
        self._upkeep = Upkeep(
            settings,
            self.table,
            self.bodies,
            self.publisher,
            self.groups,
            clock,
            request_retention=request_retention,
        )
        rebuild = Rebuild(
            kafka,
            table=self.table,
            accept=self.accept,
            feedback=self.feedback,
            publisher=self.publisher,
            clock=clock,
        )
        self.ownership = Ownership(
            kafka,
            table=self.table,
            projection=self.projection,
            rebuild=rebuild,
            ends=ends,
            barrier=self.barrier,
            gained=self._gained,
            lost=self._lost,
            failed=app.fail,
        )
        app.on_drain.append(self._drain)

    async def start(self) -> None:
        """Load what is no partition's, and begin the work that goes on by itself."""
        await asyncio.gather(self.suppressions.load(), self.ownership.warm_up(), self.clock.measure())
        self.spawn(self.clock.run())
        self.spawn(self.topics_watch.run())
        self.spawn(self.holds.run())
        self.spawn(self.barrier.run())
        self.spawn(self.ownership.run())
        self.spawn(self._upkeep.run())
        self.spawn(sendgrid_key.follow(self._settings, self._use_key))

    async def close(self) -> None:
        """End in the order of need: no more starts, last checkpoints, last records."""
        self._is_closing = True
        self.dispatch.stop()
        unfinished: list[asyncio.Future[Any]] = [*self._tasks]
        if self._change is not None:  # an assignment that came while the worker stops: what it loads is another's
            unfinished.append(self._change)
        for work in unfinished:
            work.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
        await self.ownership.close()
        await self.suppressions.close()
        await self.bodies.close()
        await self.provider.close()
        await self.publisher.close(seconds=5.0)
        self._scratch.close()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run work whose failure ends the process."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._spawned)

    def _spawned(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._app.fail(error)

    def _use_key(self, key: SecretStr) -> None:
        self.provider.use_key(key)
        self.trouble.change_key(self._clock.monotonic())
        self.dispatch.wake()

    # -- may anything start -------------------------------------------------------------------------------

    def closed(self) -> str | None:
        """Why no call may be claimed or started now; None: it may."""
        if self._app.is_draining:
            return "draining"
        if not self._partitions:
            return "no partition"
        if self._app.membership_age() > self._settings.session_timeout / 3:  # G3: somebody else may own them by now
            return "membership not confirmed"
        return self.topics_watch.difference or self.clock.why_wrong()

    # -- changes of a status ------------------------------------------------------------------------------

    def _changed(self, before: EmailStatus | None, after: EmailStatus, partition: int) -> None:
        if partition in self.ownership.loading:
            return  # what is live is looked at when the partition is whole
        is_sent_now = after.status is Status.SENT and (before is None or before.status is not Status.SENT)
        if is_sent_now and not after.test:  # the sandbox sends no events
            self.webhook_health.sent(after.id, self._clock.now())
        self._watch(after, partition)

    def _gained(self, status: EmailStatus, partition: int) -> None:
        self.webhook_health.loaded(status, self._clock.now())
        if not status.final or status.cap_group or status.digest_group:
            self._watch(status, partition)

    def _watch(self, status: EmailStatus, partition: int) -> None:
        self.groups.changed(status)
        self.dispatch.changed(status, partition)
        self.holds.changed(status, partition)

    def _due_next(self) -> list[Coordinates]:
        statuses = (self.table.get_status(email_id) for email_id in self.schedule.due_next(READ_AHEAD))
        return [status.request for status in statuses if status is not None and status.request is not None]

    # -- partitions ---------------------------------------------------------------------------------------

    async def _drain(self) -> None:
        """On revoke and stop: start nothing, give back what was not called; on a stop wait for calls too."""
        failpoint("C12", "")
        self._partitions = frozenset()  # nothing may start until what comes is loaded
        self.pace.owns((), look())
        await self.dispatch.drain(calls_too=self._app.should_stop)
        while self.publisher.pending():
            await asyncio.sleep(0.01)
        await self.ownership.write_checkpoints()

    async def _rebalanced(self, assigned: set[TP], generation: int) -> None:
        naming = Naming(self._settings.topic_prefix)
        partitions = frozenset(tp.partition for tp in assigned if tp.topic == naming.of(topics.REQUESTED))
        if any(partition >= self._settings.partitions for partition in partitions):  # somebody added some just now
            await self.topics_watch.look()  # before anything is claimed; requests in them are astray, and moved
            partitions = frozenset(partition for partition in partitions if partition < self._settings.partitions)
        is_unbroken = generation == self._generation + 1 and self._had_some
        if self._is_closing:
            return
        self._change = asyncio.ensure_future(self.ownership.change(set(partitions)))
        try:
            await self._change
        except asyncio.CancelledError:
            if not self._is_closing:
                raise
            return
        self._partitions, self._generation, self._had_some = partitions, generation, bool(partitions)
        self.pace.owns(partitions, look(), without_break=is_unbroken)
        self.dispatch.wake()

    def _lost(self, partitions: set[int]) -> None:
        self.schedule.lose(partitions)

        def is_lost(email_id: str) -> bool:
            return partition_in(email_id, self._settings.partitions) in partitions

        self.holds.lose(partitions)
        self.groups.lose(is_lost)
        self.webhook_health.lose(is_lost)

    def measure(self) -> None:
        """Set the gauges that are true only for the moment: somebody is about to read them."""
        oldest, now = self.schedule.oldest(), self.clock.now()
        for lane, count in self.schedule.backlog().items():
            BACKLOG.labels(lane.value).set(count)
            OLDEST.labels(lane.value).set(max(0.0, now - oldest[lane]) if lane in oldest else 0.0)
        LAG.clear()
        topic = Naming(self._settings.topic_prefix).of(topics.REQUESTED)
        for partition in self._partitions:
            LAG.labels(str(partition)).set(self._app.lag(TP(topic, partition)))

    def report(self) -> dict[str, Any]:
        """What the sending side has to say, for probes."""
        not_ready = []
        if self.trouble.reason is not None:
            not_ready.append(f"nothing is sent: {self.trouble.reason} ({self.trouble.detail or 'no reason given'})")
        if self.topics_watch.difference is not None:
            not_ready.append(f"nothing is sent: {self.topics_watch.difference}")
        not_ready += self._app.lost_logs.values()
        if (why := self.clock.why_wrong()) is not None:
            not_ready.append(f"nothing is sent: {why}")
        if (why := self.barrier.why_closed()) is not None:
            not_ready.append(f"nothing is sent: {why}")
        if (age := self.publisher.oldest_seconds()) > 5:
            not_ready.append(f"Kafka has acknowledged nothing for {age:.0f} s")
        if (count := self.table.unwritten()) > 0:
            not_ready.append(f"Kafka does not take {count} statuses: nothing is sent until it does")
        if self._partitions and (age := self._app.membership_age()) > self._settings.session_timeout / 3:
            not_ready.append(f"the group coordinator was not heard for {age:.0f} s: Kafka is away, or slow")
        return {
            "not_ready": not_ready,
            "partitions": len(self._partitions),
            "pace": self.pace.mode.value,
            "unreadable_topics": self.triggers.unreadable if self.triggers else {},
            "waiting": len(self.schedule),
            "in_work": self.dispatch.in_work(),
            "barred": self.barrier.unread(),
        }
