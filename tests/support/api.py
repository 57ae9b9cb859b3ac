"""An API in this process on a real Kafka, and what a worker would have written."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Self

import httpx
from confluent_kafka import Message, TopicPartition
from confluent_kafka.admin import OffsetSpec

from api.app import create_api
from api.middleware import GatewayMiddleware
from api.parts import AppState
from api.problems import Code, Problem
from api.server import server_of
from mailstream.clock import Clock
from mailstream.domain import codec
from mailstream.domain.email_id import hash_in, partition_in
from mailstream.domain.status import Coordinates, EmailStatus, Fact, Status, is_final, rank_of
from mailstream.domain.topics import REQUESTED, STATUS, Naming
from mailstream.kafka.config import admin
from mailstream.kafka.producer import Position, Publisher
from mailstream.kafka.tail import End, Tail
from mailstream.settings import Settings
from tests.support.eventually import eventually

DEV = {"Authorization": "Bearer dev"}


class Api:
    """One replica, asked without a socket."""

    def __init__(self, edge: GatewayMiddleware, http: httpx.AsyncClient) -> None:
        self.edge, self.app, self.http = edge, edge.app, http

    @property
    def parts(self) -> AppState:
        found = self.app.state.parts
        assert isinstance(found, AppState)
        return found

    async def ask(self, key: str | None = None, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
        """Ask for one email with the least body that is enough."""
        sent = dict(headers or {}) | ({"Idempotency-Key": key} if key else {})
        return await self.http.post("/v1/emails", json=an_email(**body), headers=sent)

    async def see(self, email_id: str, **headers: str) -> httpx.Response:
        """Where an email stands."""
        return await self.http.get(f"/v1/emails/{email_id}", headers=headers)


def an_email(**members: Any) -> dict[str, Any]:
    """The least body that is enough."""
    return {"to": "ada@example.com", "subject": "Hello", "text": "Your order has left."} | members


@contextlib.asynccontextmanager
async def an_api(
    settings: Settings, *, loaded: bool = True, headers: dict[str, str] | None = None, clock: Clock | None = None
) -> AsyncIterator[Api]:
    """A running replica; with ``loaded`` it can be asked for statuses at once."""
    failures: list[Exception] = []
    edge = create_api(settings, clock, failed=failures.append)
    async with edge.app.router.lifespan_context(edge.app):
        transport = httpx.ASGITransport(edge, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers or DEV) as http:
            api = Api(edge, http)
            if loaded:
                await eventually(lambda: api.parts.lookup.is_loaded, within_seconds=20, waiting_for="the view")
            yield api
    assert not failures


@contextlib.contextmanager
def failing_appends(api: Api, *keys: bytes) -> Iterator[None]:
    """Kafka acknowledges nothing with these keys."""
    submit = api.parts.submit
    append = submit._append

    async def failing(topic: str, value: bytes | None, *, key: bytes, **more: Any) -> Position:
        if key in keys:
            raise Problem(Code.NOT_ACKNOWLEDGED, "not in time")
        return await append(topic, value, key=key, **more)

    submit._append = failing  # type: ignore[assignment]
    try:
        yield
    finally:
        submit._append = append


@contextlib.asynccontextmanager
async def a_server(settings: Settings, *, headers: dict[str, str] | None = None) -> AsyncIterator[Api]:
    """A replica behind a real socket, for what only a connection shows."""
    failures: list[Exception] = []
    edge = create_api(settings, failed=failures.append)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with edge.app.router.lifespan_context(edge.app):
            server = server_of(edge)
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            async with httpx.AsyncClient(base_url=url, headers=headers or DEV, timeout=30) as http:
                api = Api(edge, http)
                await eventually(
                    lambda: api.parts.lookup.is_loaded and server.started, within_seconds=20, waiting_for="the view"
                )
                yield api
            api.parts.stop_waiting()
            server.should_exit = True
            await serving
    assert not failures


class Worker:
    """Writes the records that a worker would write, with the codec of all sides."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._naming = settings, Naming(settings.topic_prefix)
        self._publisher = Publisher(settings)

    async def publish(self, status: EmailStatus) -> Position:
        """Put a status into the log."""
        return await self._publisher.publish(
            self._naming.of(STATUS),
            codec.encode(status),
            key=status.id.encode(),
            partition=partition_in(status.id, self._settings.partitions),
            headers=codec.headers_of(status),
        )

    async def scribble(self, email_id: str, value: bytes) -> Position:
        """Put raw bytes in the place of a status."""
        partition = partition_in(email_id, self._settings.partitions)
        return await self._publisher.publish(self._naming.of(STATUS), value, key=email_id.encode(), partition=partition)

    async def request(self, value: bytes, *, key: bytes, partition: int) -> Position:
        """Put raw bytes into ``email.requested``."""
        return await self._publisher.publish(self._naming.of(REQUESTED), value, key=key, partition=partition)

    async def erase(self, email_id: str) -> None:
        """What an owner writes when a status has been kept long enough."""
        await self._publisher.publish(
            self._naming.of(STATUS),
            None,
            key=email_id.encode(),
            partition=partition_in(email_id, self._settings.partitions),
        )

    async def close(self) -> None:
        """Write no more."""
        await self._publisher.close()


class Requests:
    """Reads ``email.requested`` from now on, as a worker does."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._topic = settings, Naming(settings.topic_prefix).of(REQUESTED)
        self._records: asyncio.Queue[tuple[bytes, int]] = asyncio.Queue()
        self._failures: list[Exception] = []

    async def __aenter__(self) -> Self:
        self._tail = Tail(self._settings, self._take, name="requests", failed=self._failures.append)
        brokers = admin(self._settings)
        asked = {TopicPartition(self._topic, p): OffsetSpec.latest() for p in range(self._settings.partitions)}
        ends = [(part.topic, part.partition, answer.result(10).offset)
                for part, answer in brokers.list_offsets(asked).items()]  # fmt: skip
        await self._tail.follow(ends)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._tail.close()
        assert not self._failures

    async def next(self, fits: Callable[[bytes], bool] = bool, seconds: float = 10) -> tuple[bytes, int]:
        """Value and offset of the next record that fits."""
        async with asyncio.timeout(seconds):
            while True:
                value, offset = await self._records.get()
                if fits(value):
                    return value, offset

    def _take(self, batch: Sequence[Message | End]) -> None:
        for message in batch:
            if not isinstance(message, End):
                self._records.put_nowait((message.value() or b"", message.offset() or 0))


def a_status(email_id: str, status: Status = Status.QUEUED, *, attempt: int = 0, **members: Any) -> EmailStatus:
    """A status as a worker writes it."""
    now = datetime.now(UTC)
    plain: dict[str, Any] = {
        "writer": "worker-1",
        "id": email_id,
        "tenant": "dev",
        "recipient": f"{hash_in(email_id):08x}",
        "to_masked": "a***@e***.com",
        "status": status,
        "final": is_final(status),
        "rank": rank_of(status, attempt),
        "attempt": attempt,
        "request": Coordinates(0, 0),
        "created_at": now,
        "updated_at": now,
        "timeline": (Fact(at=now, status=status),),
    }
    return EmailStatus(**(plain | members))
