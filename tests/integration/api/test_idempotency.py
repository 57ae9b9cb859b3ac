"""The same key asks for one email: under concurrency, through two replicas, across restarts."""

import asyncio

from api.keys import DEV_KEY
from mailstream.domain.status import Status
from mailstream.settings import Settings
from tests.support.api import Worker, a_status, an_api


async def test_the_same_key_and_body_give_the_first_answer_again(settings: Settings) -> None:
    async with an_api(settings) as api:
        first, again = await api.ask(key="k"), await api.ask(key='"k"')

        assert first.status_code == again.status_code == 202
        assert first.content == again.content
        assert "Idempotent-Replayed" not in first.headers
        assert again.headers["Idempotent-Replayed"] == "true"


async def test_a_repeat_is_answered_at_a_full_quota(settings: Settings) -> None:
    async with an_api(settings) as api:
        api.parts.keys.replace((DEV_KEY.model_copy(update={"quota": 1}),))

        answers = [await api.ask(key=key) for key in ("k", "k", "other")]

        assert [answer.status_code for answer in answers] == [202, 202, 429]


async def test_the_same_key_with_another_body_is_refused(settings: Settings) -> None:
    async with an_api(settings) as api:
        await api.ask(key="k")

        answer = await api.ask(key="k", text="Something else.")

        assert answer.status_code == 422
        assert answer.json()["code"] == "idempotency_key_reused"


async def test_another_recipient_under_the_same_key_is_another_email(settings: Settings) -> None:
    async with an_api(settings) as api:
        one, other = await api.ask(key="k", to="a@example.com"), await api.ask(key="k", to="b@example.com")

        assert one.json()["id"] != other.json()["id"]
        assert "Idempotent-Replayed" not in other.headers


async def test_a_hundred_posts_with_one_key_through_two_replicas_are_one_email(settings: Settings) -> None:
    async with an_api(settings) as one, an_api(settings) as other:
        answers = await asyncio.gather(*((one, other)[n % 2].ask(key="k") for n in range(100)))

        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert sum("Idempotent-Replayed" not in answer.headers for answer in answers) == 1


async def test_two_bodies_with_one_key_through_two_replicas_get_one_202(settings: Settings) -> None:
    """Amendment 12: the first record of the id decides, whichever replica wrote it."""
    async with an_api(settings) as one, an_api(settings) as other:
        for round_ in range(30):
            pair = await asyncio.gather(
                one.ask(key=f"k{round_}", text="One."), other.ask(key=f"k{round_}", text="Two.")
            )
            assert sorted(answer.status_code for answer in pair) == [202, 422]


async def test_a_key_is_known_after_a_restart(settings: Settings) -> None:
    async with an_api(settings) as api:
        first = await api.ask(key="k")

    async with an_api(settings) as api:
        again = await api.ask(key="k")
        other = await api.ask(key="k", subject="Other")

    assert again.json()["id"] == first.json()["id"]
    assert again.headers["Idempotent-Replayed"] == "true"
    assert other.status_code == 422


async def test_a_key_is_known_when_the_worker_has_long_finished(settings: Settings) -> None:
    async with an_api(settings) as api:
        first = (await api.ask(key="k")).json()
        fingerprint = api.parts.lookup.known(first["id"].encode()).fingerprint  # type: ignore[union-attr]
        worker = Worker(settings)
        await worker.publish(a_status(first["id"], Status.DELIVERED, attempt=1, fingerprint=fingerprint))
        assert (await api.see(first["id"])).json()["status"] in {"QUEUED", "DELIVERED"}

        again, other = await api.ask(key="k"), await api.ask(key="k", subject="Other")

        assert again.json()["id"] == first["id"]
        assert again.headers["Idempotent-Replayed"] == "true"
        assert other.status_code == 422
        await worker.close()


async def test_a_body_with_mistakes_uses_up_no_key(settings: Settings) -> None:
    async with an_api(settings) as api:
        refused = await api.ask(key="k", to="nobody")
        accepted = await api.ask(key="k")

        assert refused.status_code == 422
        assert accepted.status_code == 202
        assert "Idempotent-Replayed" not in accepted.headers


async def test_a_key_that_cannot_be_one_is_refused(settings: Settings) -> None:
    async with an_api(settings) as api:
        for key in ("", '"', '"a', "a b", "x" * 256, '"' + "x" * 256 + '"', "é"):
            answer = await api.http.post("/v1/emails", json={}, headers=[(b"Idempotency-Key", key.encode())])
            assert answer.status_code == 400, key
            assert answer.json()["code"] == "bad_idempotency_key"
