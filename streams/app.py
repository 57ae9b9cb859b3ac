"""The worker on one screen: topics, table, agents.

What stands behind them, and what goes on by itself (clock, key, topics, barrier, holds, checkpoints, upkeep), is made and
started in ``wiring.py``; ``worker.py`` runs the app, ``main.py`` has one for Faust's own command.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from mode import CrashingSupervisor

from mailstream.clock import Clock, SystemClock
from mailstream.domain import topics
from mailstream.domain.topics import GROUP_WORKER, Naming
from mailstream.kafka.kafka import Kafka
from mailstream.settings import Settings
from streams.faust_guards.app import GuardedApp
from streams.intake.accept import received
from streams.rendering import Rendering
from streams.statuses.table import StatusTable
from streams.triggers import files
from streams.wiring import Wiring


class MailApp(GuardedApp):
    """The worker. ``wire`` makes its parts when it starts, inside the running loop."""

    kafka: Kafka
    request_retention = math.inf  #: seconds that a broker keeps a record of ``email.requested``
    wire: Callable[..., Wiring]
    wiring: Wiring

    async def on_start(self) -> None:
        """Make the parts and load what they need, then let Faust join the group."""
        self.wiring = self.wire(request_retention=self.request_retention)
        if self.wiring.triggers is not None:
            self.add_dependency(self.wiring.triggers)
        await self.add_runtime_dependency(self.wiring)
        await super().on_start()

    async def on_stop(self) -> None:
        """Let triggers and Faust leave their groups; then mode stops the parts."""
        if hasattr(self, "wiring") and self.wiring.triggers is not None:  # a start that failed early made none
            await self.wiring.triggers.stop()
        await super().on_stop()


def create_app(settings: Settings, clock: Clock | None = None, *, kafka: Kafka | None = None) -> MailApp:
    """The app with its topics, table and agents, not started and not connected.

    Raises TemplateError, WrongRules, WrongSettings with one line per mistake.
    """
    naming = Naming(settings.topic_prefix)
    app = MailApp(settings, GROUP_WORKER, Worker="streams.worker:MailWorker")
    raw: dict[str, Any] = {
        "key_type": bytes,
        "value_type": bytes,
        "key_serializer": "raw",
        "value_serializer": "raw",
        "allow_empty": True,
        "partitions": settings.partitions,
        "acks": False,  # offsets are committed by us
    }
    requested = app.topic(naming.of(topics.REQUESTED), **raw)
    events = app.topic(naming.of(topics.EVENTS), **raw)
    changelog = app.topic(naming.of(topics.STATUS), compacting=True, internal=True, **raw)
    table = StatusTable(
        app,
        name="status",
        help="The status of each email that was asked for within the retention.",
        partitions=settings.partitions,
        changelog_topic=changelog,
    )
    app.tables.add(table)
    app.kafka = kafka or Kafka(settings)
    app.wire = partial(
        Wiring,
        app,
        app.kafka,
        clock=clock or SystemClock(),
        table=table,
        rendering=Rendering(settings),
        rules=files.load(settings),
    )

    @app.agent(requested, name="accept", supervisor_strategy=CrashingSupervisor)  # type: ignore[untyped-decorator]
    async def accept(stream: Any) -> None:
        """Settle every request and control; its offset is committed when its status or dead letter is durable."""
        async for record, done in app.records(stream):
            app.wiring.accept.handle(received(record), done)

    @app.agent(events, name="feedback", supervisor_strategy=CrashingSupervisor)  # type: ignore[untyped-decorator]
    async def feedback(stream: Any) -> None:
        """Apply every event of the provider to the status of its email."""
        async for record, done in app.records(stream):
            app.wiring.feedback.handle(received(record), done)

    return app
