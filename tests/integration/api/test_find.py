"""Lists: filters, cursors, order, and what was accepted a moment ago."""

from typing import Any

from mailstream.domain.status import Status
from mailstream.settings import Settings
from tests.support.api import Api, Worker, a_status, an_api
from tests.support.eventually import eventually


async def pages(api: Api, **query: Any) -> list[dict[str, Any]]:
    """All pages, one after the other."""
    found: list[dict[str, Any]] = []
    while True:
        answer = await api.http.get("/v1/emails", params=query)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found += page["data"]
        if not page["has_more"]:
            assert page["next"] is None
            return found
        query["after"] = page["next"]


async def test_a_list_is_newest_first_and_complete_on_every_replica(settings: Settings) -> None:
    async with an_api(settings) as one, an_api(settings) as other:
        ids = [(await one.ask(to=f"user{n}@example.com")).json()["id"] for n in range(12)]

        for size in (1, 5, 100):
            assert [each["id"] for each in await pages(other, limit=size)] == ids[::-1]


async def test_filters_pick_by_reference_status_and_tag(settings: Settings) -> None:
    async with an_api(settings) as api:
        one = (await api.ask(reference="order-17", tags=["a"])).json()["id"]
        two = (await api.ask(reference="order-17", tags=["b"], to="b@example.com")).json()["id"]
        await api.ask(reference="order-18", tags=["a"])
        worker = Worker(settings)
        status = a_status(two, Status.SENT, attempt=1, reference="order-17", tags=("b",))
        await worker.publish(status)
        await eventually(lambda: len(api.parts.lookup.view), waiting_for="the status")

        async def ids(**query: Any) -> set[str]:
            return {each["id"] for each in await pages(api, **query)}

        assert await ids(reference="order-17") == {one, two}
        assert await ids(reference="order-17", status="SENT") == {two}
        assert await ids(status="SENT") == {two}
        assert await ids(tag="b") == {two}
        assert await ids(reference="nothing") == set()
        assert len(await ids(tag="a")) == 2
        await worker.close()


async def test_since_and_until_pick_by_time(settings: Settings) -> None:
    async with an_api(settings) as api:
        ids = [(await api.ask(to=f"user{n}@example.com")).json()["id"] for n in range(4)]
        times = [each["created_at"] for each in await pages(api)][::-1]

        found = await pages(api, since=times[1], until=times[3])

        assert [each["id"] for each in found] == [ids[2], ids[1]]


async def test_another_tenants_emails_are_not_listed(settings: Settings) -> None:
    async with an_api(settings) as api:
        await api.ask(reference="r")
        worker = Worker(settings)
        foreign = (await api.ask(to="c@example.com")).json()["id"]
        await worker.publish(a_status(foreign[:12] + "f" * 32, tenant="other", reference="r"))
        await eventually(lambda: len(api.parts.lookup.view), waiting_for="the status")

        assert len(await pages(api, reference="r")) == 1
        assert len(await pages(api)) == 2
        await worker.close()


async def test_wrong_queries_are_refused_with_their_place(settings: Settings) -> None:
    async with an_api(settings) as api:
        for query, pointer in (
            ({"limit": "0"}, "/query/limit"),
            ({"limit": "101"}, "/query/limit"),
            ({"status": "LOST"}, "/query/status"),
            ({"since": "yesterday"}, "/query/since"),
            ({"refrence": "x"}, "/query/refrence"),
        ):
            answer = await api.http.get("/v1/emails", params=query)
            assert answer.status_code == 422
            assert answer.json()["errors"][0]["pointer"] == pointer
        assert (await api.http.get("/v1/emails", params={"after": "%%%"})).json()["code"] == "bad_cursor"
