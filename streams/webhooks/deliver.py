"""Follow ``email.status`` for one endpoint and tell it what changes, at least once and in order for each email."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence

import structlog
from confluent_kafka import Message
from standardwebhooks import Webhook

from mailstream.clock import Clock, moment
from mailstream.domain import codec, topics
from mailstream.domain.start import Start
from mailstream.domain.topics import GROUP_WEBHOOKS, Naming
from mailstream.kafka.consumer_group import Ending, GroupReader
from mailstream.settings import Settings
from streams.webhooks import notice as notices
from streams.webhooks.call import Caller
from streams.webhooks.endpoints import Endpoint
from streams.webhooks.notice import EndpointVerdict, Notice

log = structlog.get_logger(__name__)

IN_FLIGHT = 16  #: calls to one endpoint at once, for different emails
REMEMBERED = 100_000  #: notices whose repeat is dropped here; after a restart the receiver drops it by its id
LOOK_SECONDS = 0.5  #: how soon a stop is noticed during a wait


class Delivery:
    """One endpoint. Make it inside the running loop."""

    def __init__(
        self,
        settings: Settings,
        endpoint: Endpoint,
        keys: Sequence[Webhook],
        caller: Caller,
        clock: Clock,
        failed: Callable[[BaseException], None],
    ) -> None:
        self.is_gone = False  #: it answered 410: it is told nothing until the next start
        self._endpoint, self._keys, self._caller, self._clock = endpoint, keys, caller, clock
        self._told: OrderedDict[str, None] = OrderedDict()
        self._places = asyncio.Semaphore(IN_FLIGHT)
        self._is_ending = False
        topic = Naming(settings.topic_prefix).of(topics.STATUS)
        self._reader = GroupReader(
            settings,
            clock,
            group=GROUP_WEBHOOKS + endpoint.name,
            topics=lambda: [topic],
            handle=self.handle,
            start_of=lambda _: Start.LATEST,  # a new endpoint is not told the past
            failed=failed,
        )

    async def close(self) -> None:
        """Finish the calls that are under way, and stop. What waits is told after the next start."""
        self._is_ending = True
        await self._reader.close()

    async def handle(self, records: Sequence[Message]) -> None:
        """Return when the endpoint has taken, or has been given up on, each of these. Raises Ending."""
        by_email: dict[bytes, list[Notice]] = {}
        for message in records:
            if (value := message.value()) is None:
                continue
            try:
                status = codec.decode_status(value)
            except codec.Undecodable:
                continue  # of a version to come: not for this endpoint's reader
            if (found := notices.notice_of(status, self._endpoint)) and found.id not in self._told:
                by_email.setdefault(message.key() or b"", []).append(found)
        results = await asyncio.gather(*(self._tell_all(some) for some in by_email.values()), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _tell_all(self, some: Sequence[Notice]) -> None:
        async with self._places:
            for each in some:
                if not self.is_gone and each.id not in self._told:
                    await self._tell(each)

    async def _tell(self, notice: Notice) -> None:
        tries, begun = 0, self._clock.monotonic()
        while True:
            if self._is_ending:
                raise Ending
            headers = notices.headers_of(notice, self._keys, moment(self._clock.now()))
            code = await self._caller.post(self._endpoint.url, notice.body, headers)
            answer, tries = notices.meaning_of(code), tries + 1
            if answer is EndpointVerdict.TAKEN:
                break
            if answer is EndpointVerdict.GONE:
                self.is_gone = True
                log.error("the endpoint wants no more notices", endpoint=self._endpoint.name)
                break
            seconds = notices.wait_seconds(answer, tries, self._clock.monotonic() - begun)
            if seconds is None:
                log.error("notice given up", endpoint=self._endpoint.name, notice=notice.id, code=code, tries=tries)
                break
            log.warning("notice not taken", endpoint=self._endpoint.name, notice=notice.id, code=code, tries=tries)
            await self._wait(seconds)
        self._told[notice.id] = None
        if len(self._told) > REMEMBERED:
            self._told.popitem(last=False)

    async def _wait(self, seconds: float) -> None:
        until = self._clock.monotonic() + seconds
        while (left := until - self._clock.monotonic()) > 0:
            if self._is_ending:
                raise Ending
            await self._clock.sleep(min(left, LOOK_SECONDS))
