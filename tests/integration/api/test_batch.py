"""Strict batches are all or nothing on Kafka too; permissive ones tell what became of each item."""

import asyncio
from typing import Any

import pytest

from mailstream.domain import codec
from mailstream.domain.request import Batch
from mailstream.settings import Settings
from tests.support.api import Api, Requests, an_api, an_email, failing_appends


def items(count: int, **members: Any) -> list[dict[str, Any]]:
    return [an_email(to=f"user{number}@example.com", **members) for number in range(count)]


async def post(api: Api, key: str | None = None, **body: Any) -> Any:
    return await api.http.post("/v1/emails/batch", json=body, headers={"Idempotency-Key": key} if key else None)


async def test_a_strict_batch_is_one_record_and_known_everywhere_at_once(settings: Settings) -> None:
    async with an_api(settings) as one, an_api(settings) as other, Requests(settings) as requests:
        answer = await post(one, items=items(50, reference="r"))

        assert answer.status_code == 202
        receipt = answer.json()
        assert (receipt["accepted"], receipt["rejected"], len(receipt["results"])) == (50, 0, 50)
        assert [each["index"] for each in receipt["results"]] == list(range(50))
        value, _ = await requests.next()
        record = codec.decode_requested(value)
        assert isinstance(record, Batch)
        assert [item.id for item in record.items] == [each["id"] for each in receipt["results"]]
        seen = await asyncio.gather(*(other.see(each["id"]) for each in receipt["results"]))
        assert {each.status_code for each in seen} == {200}
        assert seen[0].json()["reference"] == "r"


async def test_one_bad_item_keeps_a_strict_batch_out_of_the_log(settings: Settings) -> None:
    async with an_api(settings) as api, Requests(settings) as requests:
        bad = [*items(3), an_email(to="nobody", subject="a\nb"), {"to": 5}]

        answer = await post(api, mode="strict", items=bad)

        assert answer.status_code == 422
        pointers = [each["pointer"] for each in answer.json()["errors"]]
        assert {"/items/3/to/email", "/items/3/subject", "/items/4/to"} <= set(pointers)
        await api.ask(subject="the next record")
        value, _ = await requests.next()
        assert b"the next record" in value


async def test_a_permissive_batch_tells_what_became_of_each(settings: Settings) -> None:
    async with an_api(settings) as api:
        answer = await post(api, mode="permissive", items=[*items(2), an_email(to="nobody"), an_email(bogus=1)])

        receipt = answer.json()
        assert answer.status_code == 202
        assert (receipt["accepted"], receipt["rejected"]) == (2, 2)
        assert [each.get("code") for each in receipt["results"]] == [None, None, "invalid", "invalid"]
        assert receipt["results"][2]["errors"][0]["pointer"] == "/to/email"
        for each in receipt["results"][:2]:
            assert (await api.see(each["id"])).json()["status"] == "QUEUED"


async def test_a_batch_under_a_key_is_asked_once(settings: Settings) -> None:
    async with an_api(settings) as one, an_api(settings) as other:
        for mode in ("strict", "permissive"):
            pair = await asyncio.gather(
                *(post(api, key=f"k-{mode}", mode=mode, items=items(5)) for api in (one, other))
            )
            again = await post(one, key=f"k-{mode}", mode=mode, items=items(5))

            assert [each.status_code for each in (*pair, again)] == [202] * 3
            assert pair[0].json() == pair[1].json() == again.json()
            assert again.headers["Idempotent-Replayed"] == "true"
        assert len((await one.http.get("/v1/emails", params={"limit": 100})).json()["data"]) == 10


async def test_another_strict_batch_under_the_same_key_is_refused(settings: Settings) -> None:
    async with an_api(settings) as api:
        await post(api, key="k", items=items(5))

        answer = await post(api, key="k", items=items(5, subject="Other"))

        assert answer.status_code == 422
        assert answer.json()["code"] == "idempotency_key_reused"


def other_bodies(mode: str) -> list[dict[str, Any]]:
    """What is not the batch of five items in this mode."""
    return [
        {"mode": mode, "items": items(6)},
        {"mode": mode, "items": items(4)},
        {"mode": mode, "items": [*items(4), *items(5, subject="Other")[4:]]},
        {"mode": mode, "items": items(5)[::-1]},
        {"mode": "permissive" if mode == "strict" else "strict", "items": items(5)},
    ]


@pytest.mark.parametrize("mode", ["strict", "permissive"])
async def test_the_same_key_with_another_body_is_refused_on_every_replica_and_writes_nothing(
    settings: Settings, mode: str
) -> None:
    async with an_api(settings) as one, an_api(settings) as other:
        first = await post(one, key="k", mode=mode, items=items(5))
        assert first.status_code == 202
        for number, body in enumerate(other_bodies(mode)):
            answer = await post((one, other)[number % 2], key="k", **body)
            assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused"), number
        again = await post(other, key="k", mode=mode, items=items(5))
        assert (again.status_code, again.headers["Idempotent-Replayed"], again.json()) == (202, "true", first.json())
        listed = await one.http.get("/v1/emails", params={"limit": 100})
        assert len(listed.json()["data"]) == 5

    async with an_api(settings) as restarted:
        for body in other_bodies(mode):
            assert (await post(restarted, key="k", **body)).status_code == 422
        assert (await post(restarted, key="k", mode=mode, items=items(5))).headers["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize("mode", ["strict", "permissive"])
async def test_two_bodies_asked_at_once_on_two_replicas_get_one_202(settings: Settings, mode: str) -> None:
    async with an_api(settings) as one, an_api(settings) as other:
        accepted = 0
        for round_ in range(10):
            pair = await asyncio.gather(
                post(one, key=f"k{round_}", mode=mode, items=items(2, tags=[str(round_)])),
                post(other, key=f"k{round_}", mode=mode, items=items(3, tags=[str(round_)])),
            )
            assert sorted(answer.status_code for answer in pair) == [202, 422]
            accepted += next(answer.json()["accepted"] for answer in pair if answer.status_code == 202)
        listed = await one.http.get("/v1/emails", params={"limit": 100})
        assert len(listed.json()["data"]) == accepted, "nothing of a body that got 422 is in the log"


async def test_a_permissive_batch_goes_on_where_an_outage_stopped_it(settings: Settings) -> None:
    async with an_api(settings) as api, an_api(settings) as other:
        body = {"mode": "permissive", "items": [*items(4), an_email(to="nobody")]}
        with failing_appends(api, b"user2@example.com", b"user3@example.com"):
            partly = await post(api, key="k", **body)
        codes = [each.get("code") for each in partly.json()["results"]]
        assert codes == [None, None, "not_acknowledged", "not_acknowledged", "invalid"]

        again = await post(other, key="k", **body)
        fixed = await post(other, key="k", mode="permissive", items=items(5))

        assert again.json()["accepted"] == 4
        assert "Idempotent-Replayed" not in again.headers
        assert fixed.status_code == 422
        assert len((await api.http.get("/v1/emails", params={"limit": 100})).json()["data"]) == 4


async def test_a_claim_without_emails_is_forgotten_only_after_a_while(settings: Settings) -> None:
    async with an_api(settings) as api:
        with failing_appends(api, b"user0@example.com", b"user1@example.com"):
            assert (await post(api, key="k", mode="permissive", items=items(2))).status_code == 503

        assert (await post(api, key="k", mode="permissive", items=items(3))).status_code == 422
        assert (await post(api, key="k", mode="permissive", items=items(2))).json()["accepted"] == 2


async def test_batches_that_are_none_are_refused(settings: Settings) -> None:
    async with an_api(settings) as api:
        for body in (
            {}, {"items": []}, {"items": {}}, {"items": [1]}, {"items": items(1), "mode": "loose"},
            {"items": items(1), "more": 1}, {"items": items(1001)},
        ):  # fmt: skip
            assert (await post(api, **body)).status_code == 422, body
        assert (await api.http.post("/v1/emails/batch", content=b'{"items":[')).status_code == 400


async def test_a_strict_batch_beyond_one_record_is_a_413_with_the_number(settings: Settings) -> None:
    async with an_api(settings) as api:
        answer = await post(api, items=items(1000, text="x" * 1000))

        assert answer.status_code == 413
        assert "983040" in answer.json()["detail"]
        assert (await post(api, mode="permissive", items=items(1000, text="x" * 1000))).json()["accepted"] == 1000
