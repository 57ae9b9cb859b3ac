"""An operator who looks after HELD emails: asks what there is, looks at the provider, and gives a word on some."""

import asyncio
import random
import time

from mailstream.domain import codec, topics
from mailstream.domain.email_id import partition_in
from mailstream.domain.errors import NotPublished
from mailstream.domain.request import Control, ControlKind
from mailstream.domain.topics import Naming
from mailstream.kafka.producer import Publisher
from mailstream.settings import Settings
from tests.support.api_caller import ApiCaller
from tests.support.history_logs import Result, Word
from tests.support.run_log import RunLog, all_calls

LOOK_SECONDS = 2.0, 5.0
SHARE = 0.3  #: of what is HELD gets a word; the rest waits for evidence or its time


class Operator:
    """Says SENT only of what the provider has taken. Make it inside the loop."""

    def __init__(self, settings: Settings, log: RunLog, caller: ApiCaller, dice: random.Random) -> None:
        self._settings, self._log, self._caller, self._dice = settings, log, caller, dice
        self._topic = Naming(settings.topic_prefix).of(topics.REQUESTED)
        self._publisher = Publisher(settings)
        self._seen: set[str] = set()

    async def watch(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self._dice.uniform(*LOOK_SECONDS))
            held = await self._caller.held(replica=self._dice.choice(["api-0", "api-1"]))
            for id_ in held:
                if id_ not in self._seen:
                    self._seen.add(id_)
                    if self._dice.random() < SHARE:
                        await self._resolve(id_)

    async def close(self) -> None:
        """Wait for what is under way."""
        await self._publisher.close()

    async def _resolve(self, id_: str) -> None:
        calls = await asyncio.to_thread(all_calls, self._settings.sendgrid_url)
        is_taken = any(call["id"] == id_ and call["is_accepted"] for call in calls)
        to = self._dice.choice(["SENT", "SENT", "RESEND"] if is_taken else ["UNCONFIRMED", "RESEND"])
        control = Control(kind=ControlKind.RESOLVE, id=id_, by="operator", reason="looked at the provider", to=to)
        begun_at, result = time.time(), Result.OK
        try:  # as `mailstream held resolve` writes it
            await self._publisher.publish(
                self._topic,
                codec.encode(control),
                key=id_.encode(),
                partition=partition_in(id_, self._settings.partitions),
                headers=codec.headers_of(control),
            )
        except NotPublished:
            result = Result.INFO
        self._log.words.append(Word(begun_at, time.time(), control.kind, id_, result, to=to))
