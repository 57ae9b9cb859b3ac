"""A worker's side of the log, without a broker: table, projection and claim log on a log that the test drives."""

import asyncio
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

from mailstream.clock import SystemClock
from mailstream.domain import codec
from mailstream.domain.errors import NotPublished
from mailstream.domain.status import EmailStatus
from mailstream.kafka.kafka import Kafka
from mailstream.settings import Settings
from streams.core.caps_and_digests import CapAndDigestIndex
from streams.intake.accept import Accept
from streams.intake.controls import Controls
from streams.statuses.claim_log import ClaimLog
from streams.statuses.projection import Projection
from tests.support.builders import HOME, PARTITIONS
from tests.support.tables import a_table

STATUS, ATTEMPTS = "email.status", "email.attempts"


class Desk:
    """A worker's side of the log. What it appends waits until the test says that the broker has it."""

    def __init__(self) -> None:
        self.appended: list[tuple[str, bytes, asyncio.Future[Any]]] = []
        self.is_closing = False
        self.announced: list[EmailStatus] = []
        self.table = a_table(self)
        self.table.gained({HOME})
        self.log = ClaimLog(
            self,  # type: ignore[arg-type]
            ATTEMPTS,
            SystemClock(),
            worker="worker/1",
            boot="boot",
        )
        self.projection = Projection(self.table, "worker/1", self.log, (self,))
        self.projection.begin(HOME, 0)
        self._offset = 0

    def changed(self, before: EmailStatus | None, after: EmailStatus, partition: int) -> None:
        """As the projection tells its followers."""
        self.announced.append(after)

    def send(self, topic: str, value: bytes, **_: Any) -> "asyncio.Future[Any]":
        """As the publisher does."""
        sent: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.appended.append((topic, value, sent))
        return sent

    def post(self, topic: str, value: bytes, then: Callable[[Any], None], **_: Any) -> None:
        """As the publisher does."""
        self.send(topic, value).add_done_callback(lambda sent: then(sent.exception()))

    async def publish(self, topic: str, value: bytes, **_: Any) -> Any:
        """As the publisher does."""
        return await self.send(topic, value)

    def knows(self, status: EmailStatus) -> EmailStatus:
        """The email has this status already."""
        self.table.remember(status, codec.encode(status))
        return status

    def records(self) -> list[Any]:
        """What was appended to ``email.attempts``."""
        return [codec.decode_attempt(value) for topic, value, _ in self.appended if topic == ATTEMPTS]

    def acknowledge(self, topic: str) -> None:
        """The broker has all that was appended there."""
        for appended_to, _, sent in self.appended:
            if appended_to == topic and not sent.done():
                sent.set_result(None)

    def refuse(self, topic: str) -> None:
        """The broker takes nothing of what was appended there and is not acknowledged yet."""
        for appended_to, _, sent in self.appended:
            if appended_to == topic and not sent.done():
                sent.set_exception(NotPublished("no acknowledgement"))

    def read_back(self, record: Any) -> None:
        """The log brings this record, ours or another worker's."""
        self.projection.attempt(HOME, self._offset, codec.encode(record))
        self._offset += 1


def accept_at(desk: Desk, tasks: list["asyncio.Future[None]"], *, rendering: Any = None, bodies: Any = None) -> Accept:
    """What takes requests and controls at this desk; its work goes into ``tasks``. No sender is there to ask.

    Without ``rendering`` no request needs any.
    """
    groups, clock = CapAndDigestIndex(), SystemClock()
    controls = Controls(
        table=desk.table, projection=desk.projection, claim_log=desk.log, clock=clock,
        recall=Mock(return_value=False), queue=Mock(), groups=groups,
    )  # fmt: skip
    return Accept(
        Kafka(Settings(partitions=PARTITIONS, _env_file=None)),
        publisher=desk,  # type: ignore[arg-type]
        table=desk.table,
        projection=desk.projection,
        bodies=bodies or Mock(),
        rendering=rendering or Mock(is_needed=Mock(return_value=False)),
        controls=controls,
        groups=groups,
        clock=clock,
        spawn=lambda work: tasks.append(asyncio.ensure_future(work)),
    )


async def turns() -> None:
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)
