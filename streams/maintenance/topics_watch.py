"""Are the topics still what emails were made for? They may be changed under a running worker."""

import asyncio

import structlog

from mailstream.domain.errors import NoKafka, TopicsDiffer
from mailstream.kafka.kafka import Kafka
from streams.metrics import PAUSED

log = structlog.get_logger(__name__)

LOOK_SECONDS = 5.0


class TopicsWatch:
    """Asks the brokers now and then. What differs stops all claims until it is as it was."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self.difference: str | None = None  #: for people: what differs and what to do

    async def look(self) -> None:
        """Look once. Brokers that do not answer say nothing about topics."""
        try:
            await asyncio.to_thread(self._kafka.require_topics)
        except NoKafka:
            return
        except TopicsDiffer as error:
            if self.difference is None:
                log.error("nothing is sent: the topics differ", what=str(error))
            self.difference = " ".join(str(error).split())
        else:
            if self.difference is not None:
                log.info("the topics are as they should be again")
            self.difference = None
        PAUSED.labels("topics").set(0 if self.difference is None else 1)
