"""The suppression list: one for each tenant, on Kafka, the same on every replica."""

import pytest

from mailstream.domain import codec
from mailstream.domain.request import EmailRequest
from mailstream.settings import Settings
from tests.support.api import Requests, an_api, an_email


@pytest.fixture
def settings(settings: Settings) -> Settings:
    changes = {"public_url": "https://mail.example.com", "unsubscribe_key": "a key of sixteen or more"}
    return Settings(_env_file=None, **(settings.model_dump() | changes))


async def test_a_suppression_is_seen_on_every_replica_until_it_is_removed(settings: Settings) -> None:
    async with an_api(settings) as one, an_api(settings) as other:
        put = await one.http.put("/v1/suppressions/Ada%40Example.com", json={"reason": "asked on the phone"})

        assert put.status_code == 200
        seen = await other.http.get("/v1/suppressions/ada@example.com")
        assert seen.json() == put.json()
        assert seen.json()["origin"] == "person"
        assert (seen.json()["address"], seen.json()["reason"], seen.json()["by"]) == (
            "ada@example.com", "asked on the phone", "dev",
        )  # fmt: skip

        assert (await other.http.delete("/v1/suppressions/ada@example.com")).status_code == 204
        assert (await one.http.get("/v1/suppressions/ada@example.com")).status_code == 404


async def test_the_list_comes_in_pages_in_the_order_of_addresses(settings: Settings) -> None:
    async with an_api(settings) as api:
        names = [f"user{number}@example.com" for number in range(7)]
        for name in names:
            await api.http.put(f"/v1/suppressions/{name}")

        found, after = [], None
        while True:
            query = {"limit": 3} | ({"after": after} if after else {})
            page = (await api.http.get("/v1/suppressions", params=query)).json()
            found += [each["address"] for each in page["data"]]
            if not page["has_more"]:
                break
            after = page["next"]

        assert found == names


async def test_the_list_is_there_after_a_restart(settings: Settings) -> None:
    async with an_api(settings) as api:
        await api.http.put("/v1/suppressions/a/b@example.com")

    async with an_api(settings) as api:
        assert (await api.http.get("/v1/suppressions/a/b@example.com")).status_code == 200


async def test_what_is_no_address_is_refused(settings: Settings) -> None:
    async with an_api(settings) as api:
        assert (await api.http.put("/v1/suppressions/nobody")).status_code == 422
        assert (await api.http.put("/v1/suppressions/a@example.com", json={"reason": "a\nb"})).status_code == 422
        assert (await api.http.put("/v1/suppressions/a@example.com", json={"more": 1})).status_code == 422


async def test_the_link_in_a_mail_unsubscribes_by_a_post_and_not_by_a_get(settings: Settings) -> None:
    async with an_api(settings) as api, Requests(settings) as requests:
        await api.ask(unsubscribe=True, to="Ada@Example.com")
        record = codec.decode_requested((await requests.next())[0])
        assert isinstance(record, EmailRequest)
        link = record.headers["List-Unsubscribe"].strip("<>").removeprefix("https://mail.example.com")

        page = await api.http.get(link, headers={"Authorization": ""})
        assert page.status_code == 200
        assert "form" in page.text
        assert (await api.http.get("/v1/suppressions/ada@example.com")).status_code == 404

        form = {"List-Unsubscribe": "One-Click"}
        assert (await api.http.post(link, data=form, headers={"Authorization": ""})).status_code == 200
        assert (await api.http.get("/v1/suppressions/ada@example.com")).json()["origin"] == "unsubscribe"
        assert (await api.http.post(link[:-3] + "abc", data=form)).status_code == 404


async def test_a_mail_may_not_bring_unsubscribe_headers_of_its_own_as_well(settings: Settings) -> None:
    async with an_api(settings) as api:
        body = an_email(unsubscribe=True, headers={"list-unsubscribe": "<https://example.com>"})
        answer = await api.http.post("/v1/emails", json=body)

        assert answer.json()["errors"][0]["pointer"] == "/headers/list-unsubscribe"
