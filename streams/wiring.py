"""Everything of a worker that is not Faust, and how it is put together."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable

from mode import Service

from mailstream.clock import Clock
from mailstream.domain import topics
from mailstream.kafka.bodies import Bodies
from mailstream.kafka.broker_clock import BrokersClock
from mailstream.kafka.checkpoints import Checkpoints
from mailstream.kafka.kafka import Kafka
from streams import metrics
from streams.core.caps_and_digests import CapAndDigestIndex
from streams.core.circuit_breaker import CircuitBreaker
from streams.core.pace import Pace
from streams.core.schedule import Schedule
from streams.core.webhook_health import WebhookHealth
from streams.faust_guards.app import GuardedApp
from streams.intake.accept import Accept
from streams.intake.controls import Controls
from streams.intake.feedback import Feedback
from streams.maintenance import topics_watch
from streams.maintenance.retention import Retention
from streams.maintenance.topics_watch import TopicsWatch
from streams.partitions import assignment, barrier
from streams.partitions.assignment import Assignment
from streams.partitions.barrier import Barrier
from streams.partitions.log_follower import STUCK_SECONDS, LogFollower
from streams.provider import sendgrid_key
from streams.provider.port import Provider
from streams.provider.sendgrid import SendGrid
from streams.rendering import Rendering
from streams.sending import holds
from streams.sending.attempt import Sending
from streams.sending.clearance import Clearance
from streams.sending.digests import Digests
from streams.sending.dispatcher import Dispatcher
from streams.sending.gate import Gate
from streams.sending.holds import Holds
from streams.sending.suppressions import Suppressions
from streams.statuses.claim_log import ClaimLog
from streams.statuses.projection import Projection
from streams.statuses.queue import Queue
from streams.statuses.table import StatusTable
from streams.triggers.rules import Rules
from streams.triggers.service import Triggers


class Wiring(Service):  # type: ignore[misc]
    """Makes the parts, and says in which order they begin and end; what they do for one another is said in them.

    A failure of what goes on by itself ends the process.
    """

    mundane_level = "debug"

    def __init__(
        self,
        app: GuardedApp,
        kafka: Kafka,
        *,
        clock: Clock,
        table: StatusTable,
        rendering: Rendering,
        rules: Rules | None,
        request_retention: float,
    ) -> None:
        """Make it inside the running loop. ``request_retention``: seconds that a broker keeps ``email.requested``."""
        super().__init__()
        self.kafka, settings = kafka, kafka.settings
        boot = uuid.uuid4().hex[:16]
        writer = f"{settings.worker_id}/{boot}"
        self.table = table
        # linger: a claim may take a millisecond more; a request to the broker then holds several records
        seconds = min(10.0, settings.session_timeout / 3)
        self.publisher = publisher = kafka.producer(failed=app.fail, message_seconds=seconds, **{"linger.ms": 1})
        self.clock = clock = BrokersClock(
            clock, publisher, kafka.name_of(topics.REQUESTED), alarm="nothing is sent", looked=metrics.clock_looked
        )
        table.set_up(publisher, kafka.name_of(topics.STATUS), settings.partitions)
        self.queue = queue = Queue(Schedule(recipient_gap=settings.recipient_gap), table, clock)
        self.pace = pace = Pace(gap=settings.send_gap, burst=settings.send_burst, partitions=settings.partitions)
        breaker, health, groups = CircuitBreaker(), WebhookHealth(), CapAndDigestIndex()
        self.bodies = bodies = Bodies(kafka, queue.bodies_due_next)
        self.suppressions = Suppressions(kafka, app.fail)
        assert settings.sendgrid_api_key is not None
        assert settings.sender is not None
        self.provider: Provider = SendGrid(settings.sendgrid_url, settings.sendgrid_api_key, sender=settings.sender)
        attempts = kafka.name_of(topics.ATTEMPTS)
        self.claim_log = claim_log = ClaimLog(publisher, attempts, clock, worker=writer, boot=boot)
        self.topics_watch, ends = TopicsWatch(kafka), kafka.ends(seconds=STUCK_SECONDS)
        self.barrier = Barrier(kafka, table, ends, queue, head=app.acks.head)
        self.clearance = clearance = Clearance(
            app=app, topics_watch=self.topics_watch, clock=self.clock, barrier=self.barrier,
            publisher=publisher, table=table, breaker=breaker,
        )  # fmt: skip
        self.holds = Holds(
            settings=settings, table=table, claim_log=claim_log, clock=clock,
            health=health, queue=queue, clearance=clearance,
        )  # fmt: skip
        projection = Projection(table, writer, claim_log, (groups, queue, self.holds, bodies))
        self.sending = Sending(
            settings=settings, table=table, bodies=bodies, rendering=rendering, suppressions=self.suppressions, groups=groups,
            digests=Digests(groups, table, bodies, rendering, claim_log, queue.schedule, clock), claim_log=claim_log,
            pace=pace, gate=Gate(pace, clearance.why_not), provider=self.provider, breaker=breaker, clock=clock,
        )  # fmt: skip
        self.dispatch = Dispatcher(
            limit=settings.max_in_flight, queue=queue, pace=pace, sending=self.sending, claim_log=claim_log, table=table,
            breaker=breaker, clock=clock, clearance=clearance, failed=app.fail,
        )  # fmt: skip
        controls = Controls(
            table=table, projection=projection, claim_log=claim_log, clock=clock, queue=queue, groups=groups,
            recall=self.sending.recall,
        )  # fmt: skip
        self.accept = Accept(
            kafka, publisher=publisher, table=table, projection=projection, bodies=bodies, rendering=rendering,
            controls=controls, groups=groups, clock=clock, spawn=self.add_future,
        )  # fmt: skip
        self.feedback = Feedback(table, projection)
        self.renderer = rendering.process
        self.triggers = None if rules is None else Triggers(settings, publisher, rules, self.renderer, clock, app.fail)
        self.upkeep = Retention(settings, table, bodies, publisher, groups, clock, request_retention=request_retention)
        self.assignment = Assignment(
            app=app, kafka=kafka, ends=ends, publisher=publisher, table=table, projection=projection,
            logs=LogFollower(kafka, ends, projection, app.fail), checkpoints=Checkpoints(kafka),
            barrier=self.barrier, topics_watch=self.topics_watch, pace=pace, dispatch=self.dispatch, clearance=clearance,
            residents=(projection, claim_log, self.barrier, queue, self.holds, groups, table),
        )  # fmt: skip
        app.on_load.append(self.assignment.assigned)
        app.on_drain += [self.accept.drain, self.assignment.drain]

    async def on_start(self) -> None:
        """Load what is no partition's, and begin what goes on by itself."""
        await asyncio.gather(self.suppressions.load(), self.assignment.warm_up(), self.clock.measure())
        for work in (
            self.clock.run(),
            sendgrid_key.follow(self.kafka.settings, self.sending.use_key),
            _every(topics_watch.LOOK_SECONDS, self.topics_watch.look),
            _every(barrier.LOOK_SECONDS, self.barrier.let_go),
            _every(holds.LOOK_SECONDS, self.holds.look),
            _every(assignment.CHECKPOINT_SECONDS, self.assignment.write_checkpoints),
            _every(self.upkeep.round_seconds, self.upkeep.go_round),
        ):
            self.add_future(work)

    async def on_stop(self) -> None:
        """No more starts. What goes on by itself is ended next, by mode."""
        self.dispatch.stop()
        self.assignment.stop()

    async def on_shutdown(self) -> None:
        """The last checkpoints, then the last records."""
        await self.assignment.close()
        await self.suppressions.close()
        await self.renderer.close()
        await self.provider.close()
        await self.publisher.close(seconds=5.0)
        self.table.data.close()


async def _every(seconds: float, look: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(seconds)
        await look()
