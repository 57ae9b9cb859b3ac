"""``GET /v1/dead-letters`` and ``POST /v1/templates/{name}/preview``: what people look at, without a mail."""

from typing import Any

from mailstream.domain import topics
from mailstream.domain.dead_letter import DeadLetter, Reason
from mailstream.domain.record import Record
from mailstream.domain.topics import Naming
from mailstream.kafka.producer import Publisher
from mailstream.settings import Settings
from tests.support.api import Api, an_api
from tests.support.domain_events import TEMPLATES


async def reject(settings: Settings, *reasons: Reason) -> None:
    """One dead letter for each reason, in turn in each partition."""
    publisher, name = Publisher(settings), Naming(settings.topic_prefix).of(topics.REJECTED)
    for number, reason in enumerate(reasons):
        record = Record("shop.orders", 0, number, 1, key=b"ada@example.com", value=b"secret", headers={})
        letter = DeadLetter(reason, "line 1", record)
        await publisher.publish(
            name,
            letter.value(),
            key=letter.key(),
            partition=number % settings.partitions,
            headers=letter.headers(),
        )
    await publisher.close()


async def pages(api: Api, **query: Any) -> list[list[dict[str, Any]]]:
    found, after = [], {}
    while True:
        answer = await api.http.get("/v1/dead-letters", params=query | after)
        assert answer.status_code == 200, answer.text
        assert "secret" not in answer.text
        assert "ada@example.com" not in answer.text
        found.append(answer.json()["data"])
        if not answer.json()["has_more"]:
            return found
        after = {"after": answer.json()["next"]}


async def test_dead_letters_come_in_pages_none_twice_and_none_left_out(settings: Settings) -> None:
    await reject(settings, *[Reason.NOT_JSON, Reason.BAD_SHAPE, Reason.BAD_EVENT] * 4)
    async with an_api(settings) as api:
        all_pages = await pages(api, limit=5)
        one_kind = await pages(api, reason="BAD_EVENT")
        nothing = await pages(api, until="2020-01-01T00:00:00Z")

    assert [len(page) for page in all_pages] == [5, 5, 2]
    assert sorted(letter["origin"]["offset"] for page in all_pages for letter in page) == list(range(12))
    assert [letter["reason"] for letter in one_kind[0]] == ["BAD_EVENT"] * 4
    assert nothing == [[]]


async def test_a_wrong_filter_is_told(settings: Settings) -> None:
    async with an_api(settings) as api:
        for query in ({"reason": "nonsense"}, {"after": "x"}, {"limit": 0}, {"unknown": 1}):
            assert (await api.http.get("/v1/dead-letters", params=query)).status_code == 422


async def test_a_template_is_shown_as_a_mail_would_have_it(settings: Settings) -> None:
    with_templates = settings.model_copy(update={"templates_dir": str(TEMPLATES)})
    async with an_api(with_templates) as api:
        data = {"name": "Ada <b>", "order": "1042", "parcel": "P-1"}
        shown = await api.http.post("/v1/templates/order-shipped@1/preview", json={"data": data})
        assert shown.status_code == 200
        assert shown.json()["subject"] == "Your order 1042 is on its way"
        assert "Ada &lt;b&gt;" in shown.json()["html"]
        assert "Ada <b>" in shown.json()["text"]

        missing = await api.http.post("/v1/templates/order-shipped/preview", json={"data": {"order": "1"}})
        assert missing.status_code == 422
        assert "body.txt line 1: data has no name" in str(missing.json()["errors"])
        nowhere = await api.http.post("/v1/templates/..%2Fsecret/preview", json={})
        assert nowhere.status_code in (404, 422)
        assert (await api.http.post("/v1/templates/nothing/preview")).status_code == 422


async def test_without_a_folder_there_is_no_template(settings: Settings) -> None:
    async with an_api(settings) as api:
        assert (await api.http.post("/v1/templates/order-shipped/preview", json={})).status_code == 422
