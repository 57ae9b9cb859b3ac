"""A whole mailstream for a test: emulator, API and workers as real processes, and what a person would ask of them."""

import asyncio
import uuid
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import httpx

from mailstream.clock import SystemClock, moment
from mailstream.domain import codec, email_id, topics
from mailstream.domain.attempt import OutcomeRecord
from mailstream.domain.recipient import canonical, partition_of, recipient_hash
from mailstream.domain.request import Address, EmailRequest
from mailstream.domain.topics import Naming
from mailstream.kafka.producer import Publisher
from mailstream.settings import Settings
from tests.support.eventually import eventually
from tests.support.processes import Program, Programs
from tests.support.whole_topic import whole_topic

KEY = {"Authorization": "Bearer dev"}


class MailSystem:
    """Starts the emulator at once, API and workers when asked."""

    def __init__(self, programs: Programs, settings: Settings, **changes: Any) -> None:
        self.programs = programs
        self.emulator = programs.sendgrid(settings)
        self.settings = settings.model_copy(update={"sendgrid_url": self.emulator.url, **changes})
        self.api: Program | None = None
        self.workers: list[Program] = []
        self.emulator.ready()

    def start(self, *, workers: int = 1) -> "MailSystem":
        """API and workers, ready."""
        self.api = self.programs.api(self.settings)
        self.add_workers(workers)
        self.api.ready()
        return self

    def add_workers(self, count: int) -> list[Program]:
        """More workers, ready."""
        new = [self.programs.worker(self.settings) for _ in range(count)]
        self.workers += new
        for worker in new:
            worker.ready()
        return new

    # -- asking -------------------------------------------------------------------------------------------

    def ask(self, to: str | None = None, *, key: str | None = None, **members: Any) -> str:
        """One email through the API. Returns its id."""
        assert self.api is not None
        headers = KEY | ({"Idempotency-Key": key} if key else {})
        body = {"to": to or an_address(), "subject": "Hello", "text": "Hello there", **members}
        answer = httpx.post(f"{self.api.url}/v1/emails", json=body, headers=headers, timeout=10)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def status(self, id_: str) -> dict[str, Any]:
        """What a look-up says."""
        assert self.api is not None
        answer = httpx.get(f"{self.api.url}/v1/emails/{id_}", headers=KEY, timeout=10)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def publish(self, count: int, *, recipients: Sequence[str] = (), **members: Any) -> list[str]:
        """Many emails straight to Kafka, as another service would; to these in turn, or each to another. Their ids."""
        publisher, naming, clock = Publisher(self.settings), Naming(self.settings.topic_prefix), SystemClock()

        async def one(number: int) -> str:
            to = recipients[number % len(recipients)] if recipients else an_address()
            recipient = canonical(to)
            request = EmailRequest(
                id=email_id.new(recipient),
                to=Address(to),
                tenant="dev",
                source="test",
                requested_at=moment(clock.now()),
                **({"subject": "Hello", "text": "Hello there"} | members),
            )
            partition = partition_of(recipient_hash(recipient), self.settings.partitions)
            await publisher.publish(
                naming.of(topics.REQUESTED),
                codec.encode(request),
                key=recipient.encode(),
                partition=partition,
                headers=codec.headers_of(request),
            )
            assert request.id is not None
            return request.id

        ids = await asyncio.gather(*(one(number) for number in range(count)))
        await publisher.close()
        return list(ids)

    async def starts(self, count: int, *, within_seconds: float = 10.0) -> list[float]:
        """When each call started, by the clock of its worker, seconds since 1970, in order."""

        def found() -> list[float]:
            records = [codec.decode_attempt(m.value() or b"") for m in whole_topic(self.settings, topics.ATTEMPTS)]
            starts = [r.started_at.timestamp() for r in records if isinstance(r, OutcomeRecord) and r.started_at]
            assert len(starts) >= count, f"{len(starts)} of {count} outcomes"
            return sorted(starts)

        return await eventually(found, within_seconds=within_seconds, waiting_for=f"{count} outcomes in the log")

    # -- what happened ------------------------------------------------------------------------------------

    def order(self, **orders: Any) -> None:
        """Tell the emulator how to behave."""
        httpx.post(f"{self.emulator.url}/behaviour", json=orders, timeout=10).raise_for_status()

    def ledger(self, *, refused: bool = False) -> list[dict[str, Any]]:
        """The calls that the emulator accepted, in order; with ``refused`` all that reached it."""
        answer = httpx.get(f"{self.emulator.url}/ledger", params={"all": "true"} if refused else {}, timeout=30)
        calls: list[dict[str, Any]] = answer.raise_for_status().json()["data"]
        return calls

    async def all_have(self, ids: Iterable[str], status: str, *, within_seconds: float) -> None:
        """Wait until every one of these emails has the status."""
        wanted = list(ids)

        def missing() -> list[str]:
            return [id_ for id_ in wanted if self.status(id_)["status"] != status]

        await eventually(lambda: not missing(), within_seconds=within_seconds, waiting_for=f"{len(wanted)} × {status}")

    async def accepted(self, count: int, *, within_seconds: float) -> list[dict[str, Any]]:
        """Wait until the emulator has accepted that many calls."""

        def calls() -> list[dict[str, Any]]:
            found = self.ledger()
            assert len(found) >= count, f"{len(found)} of {count} calls"
            return found

        return await eventually(calls, within_seconds=within_seconds, waiting_for=f"{count} accepted calls")


def an_address() -> str:
    """A mailbox that no other email goes to."""
    return f"{uuid.uuid4().hex[:12]}@example.com"


def gaps_between(calls: Iterable[dict[str, Any]]) -> list[float]:
    """Seconds between one call and the next, by the emulator's clock."""
    at = [call["monotonic_ns"] for call in calls]
    return [(later - earlier) / 1e9 for earlier, later in pairwise(at)]


def twice(calls: Iterable[dict[str, Any]]) -> set[str]:
    """Ids that were accepted more than once."""
    seen: set[str] = set()
    again: set[str] = set()
    for call in calls:
        (again if call["id"] in seen else seen).add(call["id"])
    return again
