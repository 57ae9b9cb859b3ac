"""The process that tells endpoints: beside the workers, so that a slow endpoint holds back no mail."""

import asyncio
import signal

import structlog
from standardwebhooks import Webhook

from mailstream import logs
from mailstream.clock import SystemClock
from mailstream.domain import topics
from mailstream.kafka import admin as check
from mailstream.kafka.config import admin
from mailstream.settings import Settings, load
from streams.webhooks import endpoints
from streams.webhooks.call import Caller
from streams.webhooks.deliver import Delivery

log = structlog.get_logger(__name__)


def run(settings: Settings | None = None) -> int:
    """Run until SIGTERM or SIGINT: 0; or until nothing more can be read: 1. Raises WrongEndpoints, TopicsDiffer."""
    settings = settings or load()
    found = endpoints.load(settings)
    logs.set_up(settings)
    check.require(admin(settings), settings, [topics.STATUS])
    return asyncio.run(_run(settings, found))


async def _run(settings: Settings, found: list[tuple[endpoints.Endpoint, list[Webhook]]]) -> int:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int] = loop.create_future()

    def end(code: int) -> None:
        if not ended.done():
            ended.set_result(code)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, 0)
    caller, clock = Caller(is_dev=settings.dev), SystemClock()
    deliveries = [Delivery(settings, endpoint, keys, caller, clock, lambda _: end(1)) for endpoint, keys in found]
    log.info("telling endpoints", endpoints=[endpoint.name for endpoint, _ in found])
    code = await ended
    await asyncio.gather(*(delivery.close() for delivery in deliveries))
    await caller.close()
    return code
