"""Signed events reach Kafka, each once in effect; unsigned ones change nothing."""

import json
from typing import Any

import httpx
import pytest
from confluent_kafka import Message

from mailstream.domain import codec, topics
from mailstream.domain.email_id import partition_in
from mailstream.domain.status import Fact, Status
from mailstream.domain.suppression import Origin, key_of
from mailstream.domain.topics import Topic
from mailstream.settings import Settings
from tests.support.api import Api, Worker, a_status, an_api
from tests.support.signed_post import PUBLIC_KEY, signed
from tests.support.whole_topic import whole_topic as records_of


def whole_topic(settings: Settings, topic: Topic) -> list[Message]:
    return list(records_of(settings, topic))


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"sendgrid_webhook_keys": (PUBLIC_KEY,)})


def an_event(id_: str, event: str = "delivered", **members: Any) -> dict[str, Any]:
    return {"email": "ada@example.com", "event": event, "timestamp": 1795000000, "ms_id": id_} | members


async def post(api: Api, *events: Any, **headers: str) -> httpx.Response:
    body = json.dumps(events).encode() + b"\r\n"
    return await api.http.post("/v1/events/sendgrid", content=body, headers=signed(body) | headers)


async def test_events_go_to_the_partition_of_their_email(settings: Settings) -> None:
    async with an_api(settings) as api:
        ids = [(await api.ask(to=f"user{n}@example.com")).json()["id"] for n in range(8)]

        answer = await post(api, *(an_event(id_) for id_ in ids), an_event("foreign"))

        assert (answer.status_code, answer.content) == (204, b"")
        records = whole_topic(settings, topics.EVENTS)
        found = {codec.decode_event(each.value() or b"").id: each.partition() for each in records}
        assert {id_: partition_in(id_, settings.partitions) for id_ in ids}.items() <= found.items()
        assert None in found


async def test_a_bad_element_costs_the_others_nothing(settings: Settings) -> None:
    async with an_api(settings) as api:
        id_ = (await api.ask()).json()["id"]

        answer = await post(api, 5, an_event(id_), {"event": 1})

        assert answer.status_code == 204
        assert len(whole_topic(settings, topics.EVENTS)) == 1
        letters = whole_topic(settings, topics.REJECTED)
        assert [each.value() for each in letters] == [b"5", b'{"event": 1}']
        assert {dict(each.headers() or ())["mailstream-reason"] for each in letters} == {b"BAD_EVENT"}


async def test_a_hundred_replays_are_one_post(settings: Settings) -> None:
    async with an_api(settings) as api:
        body = json.dumps([an_event((await api.ask()).json()["id"])]).encode()
        headers = signed(body)

        for _ in range(100):
            answer = await api.http.post("/v1/events/sendgrid", content=body, headers=headers)
            assert answer.status_code == 204

        assert len(whole_topic(settings, topics.EVENTS)) == 1


async def test_what_is_not_signed_changes_nothing(settings: Settings) -> None:
    async with an_api(settings) as api:
        body = json.dumps([an_event("x")]).encode()
        good = signed(body)

        for headers in ({}, {**good, "X-Twilio-Email-Event-Webhook-Timestamp": "1795000000"}, signed(b"other")):
            answer = await api.http.post("/v1/events/sendgrid", content=body, headers=headers)
            assert answer.status_code == 401
            assert answer.json()["code"] == "bad_signature"

        assert whole_topic(settings, topics.EVENTS) == []


async def test_without_a_key_nothing_is_believed_not_even_in_development(settings: Settings) -> None:
    bare = settings.model_copy(update={"sendgrid_webhook_keys": ()})
    assert bare.dev
    async with an_api(bare) as api:
        assert (await post(api, an_event("x"))).status_code == 401


async def test_signed_nonsense_is_a_400(settings: Settings) -> None:
    async with an_api(settings) as api:
        for body in (b"", b"{}", b"[", b"\xff"):
            answer = await api.http.post("/v1/events/sendgrid", content=body, headers=signed(body))
            assert answer.status_code == 400


async def test_a_bounce_keeps_further_mail_from_the_address(settings: Settings) -> None:
    async with an_api(settings) as api:
        id_ = (await api.ask()).json()["id"]

        await post(api, an_event(id_, "bounce", type="bounce", reason="550 no such user"))

        [record] = whole_topic(settings, topics.SUPPRESSIONS)
        suppression = codec.decode_suppression(record.value() or b"")
        assert record.key() == key_of("dev", "ada@example.com")
        assert (suppression.tenant, suppression.origin, suppression.reason) == (
            "dev",
            Origin.BOUNCE,
            "550 no such user",
        )


async def test_a_repeated_bounce_does_not_undo_what_a_person_undid(settings: Settings) -> None:
    async with an_api(settings) as api:
        id_ = (await api.ask()).json()["id"]
        bounce = an_event(id_, "bounce", type="bounce")
        await post(api, bounce)
        event = codec.decode_event(whole_topic(settings, topics.EVENTS)[0].value() or b"")
        worker, status = Worker(settings), a_status(id_, Status.BOUNCED, attempt=1)
        fact = Fact(at=event.at, status=Status.BOUNCED, key=event.dedupe)
        await worker.publish(a_status(id_, Status.BOUNCED, attempt=1, timeline=(*status.timeline, fact)))
        await api.parts.lookup.barrier()

        await post(api, bounce | {"sg_event_id": "another"})

        assert len(whole_topic(settings, topics.SUPPRESSIONS)) == 1
        await worker.close()
