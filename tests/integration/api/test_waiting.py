"""Wait for a final status, follow a timeline, see the queue."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx

from mailstream.domain.status import Fact, Status
from mailstream.settings import Settings
from tests.support.api import DEV, Worker, a_server, a_status, an_api


async def events(answer: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """Events as they come: event, id and data."""
    event: dict[str, Any] = {}
    async for line in answer.aiter_lines():
        name, _, value = line.partition(": ")
        if name in ("event", "id"):
            event[name] = value
        elif name == "data":
            event["data"] = json.loads(value)
        elif not line and event:
            yield event
            event = {}


def timeline(*statuses: Status) -> dict[str, Any]:
    """A status of these facts."""
    at = a_status("em_00000000_a").created_at
    return {"timeline": tuple(Fact(at=at, status=status) for status in statuses)}


async def test_a_wait_ends_when_the_status_is_final(settings: Settings) -> None:
    async with an_api(settings) as api:
        worker, id_ = Worker(settings), (await api.ask()).json()["id"]
        waiting = asyncio.create_task(api.http.get(f"/v1/emails/{id_}?wait=30"))
        await worker.publish(a_status(id_, Status.PROCESSING, attempt=1))
        await asyncio.sleep(0.1)
        assert not waiting.done()

        await worker.publish(a_status(id_, Status.SENT, attempt=1))

        answer = await asyncio.wait_for(waiting, 5)
        assert answer.json()["status"] == "SENT"
        await worker.close()


async def test_a_wait_that_is_over_tells_what_is(settings: Settings) -> None:
    async with an_api(settings) as api:
        id_ = (await api.ask()).json()["id"]

        answer = await api.http.get(f"/v1/emails/{id_}?wait=1")

        assert answer.status_code == 200
        assert answer.json()["status"] == "QUEUED"
        for wrong in ("61", "-1", "x", "", "1.5"):
            assert (await api.http.get(f"/v1/emails/{id_}?wait={wrong}")).status_code == 422


async def test_a_timeline_is_streamed_so_far_and_then_live(settings: Settings) -> None:
    async with a_server(settings) as api:
        worker, id_ = Worker(settings), (await api.ask()).json()["id"]
        async with api.http.stream("GET", f"/v1/emails/{id_}/events") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            stream = events(answer)
            first = await anext(stream)
            facts = timeline(Status.QUEUED, Status.PROCESSING, Status.SENT)
            await worker.publish(a_status(id_, Status.SENT, attempt=1, **facts))
            rest = [await anext(stream), await anext(stream)]

        assert [(each["id"], each["data"]["status"]) for each in (first, *rest)] == [
            ("1", "QUEUED"),
            ("2", "PROCESSING"),
            ("3", "SENT"),
        ]
        assert rest[-1]["data"]["final"] is True
        await worker.close()


async def test_a_stream_goes_on_behind_the_last_event(settings: Settings) -> None:
    async with a_server(settings) as api:
        worker, id_ = Worker(settings), (await api.ask()).json()["id"]
        facts = timeline(Status.QUEUED, Status.PROCESSING, Status.SENT)
        await worker.publish(a_status(id_, Status.SENT, attempt=1, **facts, timeline_dropped=5))
        await api.http.get(f"/v1/emails/{id_}?wait=5")

        resumed = DEV | {"Last-Event-ID": "7"}
        async with api.http.stream("GET", f"/v1/emails/{id_}/events", headers=resumed) as answer:
            event = await anext(events(answer))

        assert (event["id"], event["data"]["status"]) == ("8", "SENT")
        await worker.close()


async def test_a_key_has_only_so_many_streams(settings: Settings) -> None:
    async with a_server(settings) as api:
        id_ = (await api.ask()).json()["id"]
        few = api.parts.keys.find(b"dev").model_copy(update={"streams": 1})  # type: ignore[union-attr]
        api.parts.keys.replace((few,))
        async with api.http.stream("GET", f"/v1/emails/{id_}/events") as first:
            await anext(events(first))
            second = await api.http.get(f"/v1/emails/{id_}/events")

        assert second.status_code == 429
        assert second.json()["code"] == "too_many_streams"


async def test_streams_end_when_the_process_stops(settings: Settings) -> None:
    async with a_server(settings) as api:
        id_ = (await api.ask()).json()["id"]
        async with api.http.stream("GET", f"/v1/emails/{id_}/events") as answer:
            stream = events(answer)
            await anext(stream)

            api.parts.stop_waiting()

            assert [each async for each in stream] == []


async def test_the_queue_shows_what_waits_and_when_it_is_drained(settings: Settings) -> None:
    async with an_api(settings) as api:
        ids = [(await api.ask(to=f"user{n}@example.com", lane=lane)).json()["id"]
               for n, lane in enumerate(["normal", "normal", "bulk", "critical"])]  # fmt: skip
        later = (await api.ask(to="later@example.com", send_at="2027-06-01T00:00:00Z")).json()["id"]

        await api.parts.lookup.barrier()
        seen = [(await api.see(each)).json() for each in ids]
        queue = (await api.http.get("/v1/queue")).json()

        assert [each["position"] for each in seen] == [1, 3, 2, 0]  # bulk has its share, too
        assert (queue["ready"], queue["scheduled"]) == (4, 1)
        assert {lane: state["ready"] for lane, state in queue["lanes"].items()} == {
            "critical": 1, "normal": 2, "bulk": 1,
        }  # fmt: skip
        assert sum(queue["lanes"]["normal"]["partitions"].values()) == 3
        assert queue["drained_at"] > queue["next_turn_at"]
        assert (await api.see(later)).json()["estimated_at"] == "2027-06-01T00:00:00Z"


async def test_an_email_leaves_the_queue_when_its_turn_comes(settings: Settings) -> None:
    async with an_api(settings) as api:
        worker = Worker(settings)
        first, second = [(await api.ask(to=f"user{n}@example.com")).json()["id"] for n in range(2)]
        await api.parts.lookup.barrier()
        assert (await api.see(second)).json()["position"] == 1

        await worker.publish(a_status(first, Status.PROCESSING, attempt=1))
        await api.parts.lookup.barrier()

        seen = (await api.see(second)).json()
        assert seen["position"] == 0
        assert seen["estimated_at"] > seen["created_at"]
        assert (await api.see(first)).json()["position"] is None
        await worker.close()


async def test_the_queue_is_streamed_when_it_changes(settings: Settings) -> None:
    async with a_server(settings) as api, api.http.stream("GET", "/v1/queue/stream") as answer:
        stream = events(answer)
        before = await anext(stream)
        await api.ask()
        after = await asyncio.wait_for(anext(stream), 5)

        assert (before["data"]["ready"], after["data"]["ready"]) == (0, 1)


async def test_a_queue_in_which_something_waits_is_told_once_a_second_and_not_all_the_time(settings: Settings) -> None:
    async with a_server(settings) as api:
        await api.ask()
        async with api.http.stream("GET", "/v1/queue/stream") as answer:
            told = 0
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2.5):
                    async for _ in events(answer):
                        told += 1

        assert 2 <= told <= 3
