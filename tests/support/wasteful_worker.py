"""A worker in which Faust loses a race: ``python -m tests.support.wasteful_worker``.

It is the real worker. Before it seeks to the committed offsets it fetches records and throws them away, as Faust does by
itself when a fetch is under way while recovery ends; on a busy machine one start in ten.
"""

from faust.transport.drivers.aiokafka import Consumer

from cli.main import main
from mailstream.domain.topics import REQUESTED

FETCH_SECONDS = 3.0

seek = Consumer.perform_seek


async def seek_after_a_fetch(self: Consumer) -> None:
    """Take what has been fetched of requests, forget it, and seek."""
    thread = self._thread
    places = {place for place in self.assignment() if place.topic.endswith(REQUESTED.name)}
    await thread.call_thread(thread._ensure_consumer()._fetcher.fetched_records, places, timeout=FETCH_SECONDS)
    await seek(self)


if __name__ == "__main__":
    Consumer.perform_seek = seek_after_a_fetch
    main()
