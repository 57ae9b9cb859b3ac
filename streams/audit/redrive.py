"""Find what is to be asked for again, and ask: the only way in which a failed or rejected mail is sent once more.

Nothing here calls the provider; a worker takes the new records like any others.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from itertools import islice

from mailstream.domain import codec, senders, topics
from mailstream.domain.request import EmailRequest
from mailstream.domain.status import EmailStatus
from mailstream.domain.topics import Naming
from mailstream.kafka.dead_letter_reader import Letter
from mailstream.kafka.producer import Position, Publisher
from mailstream.kafka.reader import Reader
from mailstream.settings import Settings
from mailstream.templates.render_process import RenderProcess
from streams.audit import redrive_plan as redrive
from streams.audit.redrive_plan import AuditReason, NotRedrivable, RedriveContext, RedrivePlan
from streams.triggers import files
from streams.triggers.records import Outgoing

#: Records on their way at once: what is planned may be many.
IN_FLIGHT = 1000


class Redrive:
    """Plans against the present settings, rules and templates, as a worker has them."""

    def __init__(self, settings: Settings, cause: AuditReason) -> None:
        """Raises WrongRules, TemplateError."""
        rules = files.load(settings)
        self._renderer = RenderProcess(settings.templates_dir)
        self._settings, self._cause = settings, cause
        self._naming = Naming(settings.topic_prefix)
        self._means = RedriveContext(
            settings.partitions,
            settings.topic_prefix,
            senders.of_account(settings.sender, settings.senders_allowed),
            rules,
        )

    async def dead_letters(
        self, letters: Iterable[Letter], now: datetime
    ) -> list[tuple[Letter, RedrivePlan | NotRedrivable]]:
        """What would be asked for each dead letter."""
        try:
            return [(letter, await self._dead_letter(letter, now)) for letter in letters]
        finally:
            await self._renderer.close()

    async def _dead_letter(self, letter: Letter, now: datetime) -> RedrivePlan | NotRedrivable:
        if letter.is_cut:
            return NotRedrivable("only its first part was kept")
        render = self._renderer.render
        try:
            return await redrive.dead_letter(letter.dead_letter, letter.place, self._cause, self._means, render, now)
        except NotRedrivable as why:
            return why

    def email(self, status: EmailStatus, request: EmailRequest | None, now: datetime) -> RedrivePlan | NotRedrivable:
        """What would be asked for an email; ``request`` is None when its body is gone."""
        if request is None:
            return NotRedrivable("its record is no longer in email.requested")
        try:
            return redrive.email(status, request, self._cause, self._means, now)
        except NotRedrivable as why:
            return why

    def body(self, reader: Reader, status: EmailStatus) -> EmailRequest | None:
        """The request of an email, by its coordinates; None when the record is gone."""
        if (place := status.request) is None:
            return None
        topic = self._naming.of(topics.REQUESTED)
        if (message := reader.record(topic, place.partition, place.offset)) is None:
            return None
        found = codec.decoded(codec.decode_requested, message.value())
        return found if isinstance(found, EmailRequest) else None


async def published(publisher: Publisher, settings: Settings, outgoing: Iterable[Outgoing]) -> AsyncIterator[Position]:
    """Append the records, then close the publisher. Tells of each that is in the log.

    Raises NotPublished: do it again, ids are known.
    """
    name_of, rest = Naming(settings.topic_prefix).of, iter(outgoing)
    try:
        while some := list(islice(rest, IN_FLIGHT)):
            for place in await asyncio.gather(
                *(
                    publisher.publish(name_of(topic), value, key=key, partition=partition, headers=headers)
                    for topic, value, key, partition, headers in some
                )
            ):
                yield place
    finally:
        await publisher.close()
