"""What happens in a run, noted while it happens: who asked what, what look-ups answered, what was done to whom.

Together with the emulator's ledger and the topics this is the whole history.
"""

import time
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import httpx
import msgspec

from mailstream.clock import moment
from mailstream.domain import codec, email_id, topics
from mailstream.domain.errors import NotPublished
from mailstream.domain.recipient import canonical, partition_of, recipient_hash
from mailstream.domain.request import Address, EmailRequest
from mailstream.domain.topics import Naming
from mailstream.kafka.producer import Publisher
from mailstream.settings import Settings
from tests.support.collected import collected
from tests.support.history import History
from tests.support.history_logs import Ask, Audit, Fault, FaultKind, Lookup, Result, Sample, Word
from tests.support.mail_system import an_address

PAGE = 5000


class RunLog:
    """The logs A, G and N of one run, and what was sampled."""

    def __init__(self) -> None:
        self.asks: list[Ask] = []
        self.words: list[Word] = []
        self.lookups: list[Lookup] = []
        self.faults: list[Fault] = []
        self.samples: list[Sample] = []
        self.audits: list[Audit] = []

    def did(self, kind: FaultKind, target: str, code: int | None = None) -> None:
        """Note a fault at the moment of its doing."""
        self.faults.append(Fault(time.time(), kind, target, code))

    def history(self, settings: Settings, calls: Iterable[dict[str, Any]], **more: Any) -> History:
        """All logs together; the topics are read as they are now."""
        return collected(
            settings,
            calls,
            asks=tuple(self.asks),
            words=tuple(self.words),
            lookups=tuple(self.lookups),
            faults=tuple(sorted(self.faults, key=lambda fault: fault.at)),
            samples=tuple(self.samples),
            audits=tuple(self.audits),
            **more,
        )


def all_calls(emulator_url: str) -> list[dict[str, Any]]:
    """The emulator's whole ledger, page by page."""
    calls: list[dict[str, Any]] = []
    since, has_more = 0, True
    while has_more:
        answer = httpx.get(
            f"{emulator_url}/ledger", params={"all": "true", "since": since, "limit": PAGE}, timeout=30
        ).raise_for_status()
        page = msgspec.json.decode(answer.content)
        calls += page["data"]
        since, has_more = page["next"], page["has_more"]
    return calls


class KafkaCaller:
    """A service that writes its requests to Kafka itself. Make it inside the loop."""

    def __init__(self, settings: Settings, log: RunLog) -> None:
        self._partitions, self._log = settings.partitions, log
        self._topic = Naming(settings.topic_prefix).of(topics.REQUESTED)
        self._publisher = Publisher(settings)

    async def ask(self, to: str | None = None, **members: Any) -> str:
        """One email. Returns its id, whatever became of the record."""
        recipient = canonical(to or an_address())
        request = EmailRequest(
            **{
                "id": email_id.new(recipient),
                "to": Address(recipient),
                "tenant": "dev",
                "source": "test",
                "requested_at": moment(time.time()),
                "subject": "Hello",
                "text": "Hello there",
                **members,
            }
        )
        assert request.id is not None
        begun_at, result = time.time(), Result.OK
        try:
            await self._publisher.publish(
                self._topic,
                codec.encode(request),
                key=recipient.encode(),
                partition=partition_of(recipient_hash(recipient), self._partitions),
                headers=codec.headers_of(request),
            )
        except NotPublished:
            result = Result.INFO
        self._log.asks.append(
            Ask(
                begun_at,
                result,
                None,
                request.id,
                time.time(),
                to=recipient,
                send_at=seconds_of(request.send_at),
                expires_at=seconds_of(request.expires_at),
                by="kafka",
            )
        )
        return request.id

    async def close(self) -> None:
        """Wait for what is under way."""
        await self._publisher.close()


def seconds_of(moment: datetime | str | None) -> float | None:
    """A time that was asked for, in seconds since 1970."""
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    return moment.timestamp() if moment is not None else None
