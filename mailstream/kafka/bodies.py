"""The bodies of waiting emails: a bounded number of bytes in memory, the rest read again from ``email.requested``.

A partition that cannot be read holds up its own emails only: it is left out of what is read for the others, and asked
again beside them whenever an email of its own is wanted.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable
from itertools import groupby
from operator import itemgetter

from mailstream.domain import codec, topics
from mailstream.domain.errors import MailstreamError, NoKafka, NotCaughtUp, TopicsDiffer
from mailstream.domain.request import EmailRequest
from mailstream.domain.status import Coordinates, EmailStatus
from mailstream.kafka import tail
from mailstream.kafka.kafka import Kafka

OVERHEAD_BYTES = 200  #: what Python needs around a body
READ_SECONDS = 10.0  #: without an answer of a partition before it counts as silent

Found = dict[Coordinates, bytes]
Failed = dict[int, str]  #: why a partition cannot be read


class BodyGone(MailstreamError):
    """The log does not hold a request any more."""


class Bodies:
    """Values of request records by their coordinates."""

    def __init__(self, kafka: Kafka, due_next: Callable[[], Iterable[Coordinates]]) -> None:
        """``due_next`` says which bodies will be asked for soon."""
        self._kafka, self._topic = kafka, kafka.name_of(topics.REQUESTED)
        self._limit = kafka.settings.bodies_bytes
        self._due_next = due_next
        self._kept: OrderedDict[Coordinates, bytes] = OrderedDict()
        self._size = 0
        self._reading = asyncio.Lock()
        self._asked: set[Coordinates] = set()  #: emails that wait for their body
        self._silent: set[int] = set()  #: partitions that did not answer
        self._asking_silent = asyncio.Lock()

    def keep(self, place: Coordinates, value: bytes) -> None:
        """Remember a body; when there is no room, the oldest ones are forgotten and read again in their turn."""
        if place in self._kept:
            return
        # A copy: what the threads of the clients allocate is in arenas of their own, and each would grow to all bodies.
        self._kept[place] = bytes(memoryview(value))
        self._size += len(value) + OVERHEAD_BYTES
        while self._size > self._limit:
            self._drop(next(iter(self._kept)))

    async def request(self, status: EmailStatus) -> EmailRequest:
        """What was asked for. Raises BodyGone, NotCaughtUp."""
        assert status.request is not None
        if (value := await self.get(status.request)) is None:
            raise BodyGone(f"the log does not hold the request of {status.id} any more")
        request = codec.decode_requested(value)
        assert isinstance(request, EmailRequest)
        return request

    def changed(self, before: EmailStatus | None, after: EmailStatus, partition: int) -> None:
        """Forget the body of an email that has ended: no call needs it."""
        if after.final and (place := after.request) is not None and place in self._kept:
            self._drop(place)

    async def get(self, place: Coordinates) -> bytes | None:
        """The body; None when the log does not hold it any more. Raises NotCaughtUp when its partition does not answer.

        A body that is missing is read together with those that are due next.
        """
        if (value := self._kept.get(place)) is not None:
            return value
        self._asked.add(place)  # all who wait are read together: they are not due next any more, they are in work
        try:
            if place.partition not in self._silent:
                async with self._reading:  # who waited here has probably been read with the others
                    if (value := self._kept.get(place)) is not None:
                        return value
                    found = await self._read([*self._asked, *self._due_next()])
                    if place not in found:  # very large bodies, or a silent partition before it: not all were read
                        found = await self._read([place])
                if place.partition not in self._silent:
                    return found.get(place)
        finally:
            self._asked.discard(place)
        return await self._get_from_silent(place)

    async def _read(self, places: Iterable[Coordinates]) -> Found:
        """Read, and keep, what is at these places in partitions that answer; learn which do not."""
        wanted = {p for p in places if p not in self._kept and p.partition not in self._silent}
        found, failed = await asyncio.to_thread(self._fetch, wanted)
        for place, value in found.items():
            self.keep(place, value)
        self._silent |= failed.keys()
        return found

    async def _get_from_silent(self, place: Coordinates) -> bytes | None:
        if self._asking_silent.locked():  # to wait here would take the place of an email that can be sent
            raise NotCaughtUp(f"email.requested/{place.partition} did not answer, and is asked again")
        async with self._asking_silent:
            found, failed = await asyncio.to_thread(self._fetch, [place])
        if failed:
            raise NotCaughtUp(failed[place.partition])
        self._silent.discard(place.partition)
        if (value := found.get(place)) is not None:
            self.keep(place, value)
        return value

    def _fetch(self, places: Iterable[Coordinates]) -> tuple[Found, Failed]:
        """What is there at these places; and the partition that does not answer, with why. On a thread.

        A place is missing when its record is gone, when there was too much to read, or when another partition did not
        answer first: then reading ends, as each further one may take as long.
        """
        found: Found = {}
        size = 0
        wanted = sorted((place.partition, place.offset) for place in places)
        with self._kafka.reader(seconds=READ_SECONDS, **tail.LITTLE_AHEAD) as reader:
            for partition, group in groupby(wanted, key=itemgetter(0)):
                try:
                    for message in reader.fetch(self._topic, partition, (offset for _, offset in group)):
                        if (value := message.value()) is not None:
                            found[Coordinates(partition, message.offset() or 0)] = value
                            size += len(value)
                        if size > self._limit / 4:
                            return found, {}
                except (NoKafka, TopicsDiffer) as error:
                    return found, {partition: f"email.requested/{partition} cannot be read: {error}"}
        return found, {}

    def _drop(self, place: Coordinates) -> None:
        self._size -= len(self._kept.pop(place)) + OVERHEAD_BYTES
