"""Two tenants × every route: neither sees or changes what is the other's."""

from typing import Any

import pytest

from api import controls
from api.keys import Key, Scope, hash_of
from mailstream.settings import Settings
from tests.support.api import Api, Requests, an_api, an_email

ALL = frozenset(Scope)
KEYS = tuple(Key(name=name, sha256=hash_of(name), tenant=name, scopes=ALL, streams=100) for name in ("one", "other"))


def key(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


async def ask(api: Api, name: str, idempotency_key: str | None = None, **members: Any) -> Any:
    headers = key(name) | ({"Idempotency-Key": idempotency_key} if idempotency_key else {})
    return await api.http.post("/v1/emails", json=an_email(**members), headers=headers)


async def test_what_belongs_to_one_tenant_does_not_exist_for_the_other(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controls, "SECONDS", 0.1)
    async with an_api(settings) as api, Requests(settings) as requests:
        api.parts.keys.replace(KEYS)
        mine = (await ask(api, "one", reference="secret-ref", tags=["secret-tag"])).json()["id"]
        await api.http.put("/v1/suppressions/ada@example.com", headers=key("one"))
        await requests.next()

        covered = set()
        for method, path, body in (
            ("GET", f"/v1/emails/{mine}", None),
            ("GET", f"/v1/emails/{mine}?wait=1", None),
            ("GET", f"/v1/emails/{mine}/events", None),
            ("POST", f"/v1/emails/{mine}/cancel", {}),
            ("PATCH", f"/v1/emails/{mine}", {"send_at": "2027-01-01T00:00:00Z"}),
            ("GET", "/v1/suppressions/ada@example.com", None),
        ):
            foreign = await api.http.request(method, path, json=body, headers=key("other"))
            unknown = await api.http.request(
                method,
                path.replace(mine, mine[:12] + "0" * 32).replace("ada@", "bob@"),
                json=body,
                headers=key("other"),
            )
            assert foreign.status_code == unknown.status_code == 404, (method, path)
            assert without_id(foreign) == without_id(unknown), (method, path)
            covered.add((method, path.split("?")[0].replace(mine, "{id}").replace("ada@example.com", "{address}")))

        for query in ("", "?reference=secret-ref", "?tag=secret-tag", "?status=QUEUED", "?limit=100"):
            assert (await api.http.get(f"/v1/emails{query}", headers=key("other"))).json()["data"] == []
            assert len((await api.http.get(f"/v1/emails{query}", headers=key("one"))).json()["data"]) == 1
        assert (await api.http.get("/v1/suppressions", headers=key("other"))).json()["data"] == []
        covered |= {("GET", "/v1/emails"), ("GET", "/v1/suppressions")}

        assert (await api.http.delete("/v1/suppressions/ada@example.com", headers=key("other"))).status_code == 204
        assert (await api.http.get("/v1/suppressions/ada@example.com", headers=key("one"))).status_code == 200
        await api.http.put("/v1/suppressions/ada@example.com", json={"reason": "x"}, headers=key("other"))
        assert (await api.http.get("/v1/suppressions/ada@example.com", headers=key("one"))).json()["reason"] == ""
        covered |= {("DELETE", "/v1/suppressions/{address}"), ("PUT", "/v1/suppressions/{address}")}

        await ask(api, "one", subject="the next record")
        assert b"the next record" in (await requests.next())[0]  # no control record of the other's got into the log
        assert covered == routes_with_data_of_a_tenant(api)


async def test_one_idempotency_key_is_two_for_two_tenants(settings: Settings) -> None:
    async with an_api(settings) as api:
        api.parts.keys.replace(KEYS)
        mine, theirs = await ask(api, "one", "k"), await ask(api, "other", "k", subject="Other")

        assert (mine.status_code, theirs.status_code) == (202, 202)
        assert mine.json()["id"] != theirs.json()["id"]
        assert "Idempotent-Replayed" not in theirs.headers
        for path, body in (("/v1/emails/batch", {"items": [an_email()]}), ("/v3/mail/send", V3)):
            answers = [
                await api.http.post(path, json=body, headers=key(name) | {"Idempotency-Key": "k"})
                for name in ("one", "other")
            ]
            assert all("Idempotent-Replayed" not in answer.headers for answer in answers)


async def test_one_batch_id_is_two_for_two_tenants(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controls, "SECONDS", 0.1)
    async with an_api(settings) as api, Requests(settings) as requests:
        api.parts.keys.replace(KEYS)
        await api.http.post("/v3/mail/send", json=V3 | {"batch_id": "b"}, headers=key("one"))
        await requests.next()

        body = {"batch_id": "b", "status": "cancel"}
        answer = await api.http.post("/v3/user/scheduled_sends", json=body, headers=key("other"))

        assert answer.status_code == 201
        await ask(api, "one", subject="the next record")
        assert b"the next record" in (await requests.next())[0]


V3 = {
    "personalizations": [{"to": [{"email": "ada@example.com"}]}],
    "from": {"email": "sender@example.com"},
    "subject": "Hello",
    "content": [{"type": "text/plain", "value": "Hi"}],
}
#: Routes that take what a tenant asks for, have tests of their own above, or show nothing of any tenant.
WITHOUT = {
    ("POST", "/v1/emails"), ("POST", "/v1/emails/batch"), ("POST", "/v3/mail/send"), ("POST", "/v3/mail/batch"),
    ("GET", "/v3/mail/batch/{batch_id}"), ("POST", "/v3/user/scheduled_sends"), ("GET", "/v1/queue"),
    ("GET", "/v1/queue/stream"),
    ("POST", "/v1/templates/{name}/preview"),  # a mail of what the caller gives
    ("GET", "/v1/dead-letters"),  # for admins of the whole system: whose a broken record is cannot be told
}  # fmt: skip


def routes_with_data_of_a_tenant(api: Api) -> set[tuple[str, str]]:
    paths = api.app.openapi()["paths"]
    routes = {
        (method.upper(), path)
        for path, methods in paths.items()
        for method, each in methods.items()
        if each.get("security")
    }
    return routes - WITHOUT


def without_id(answer: Any) -> dict[str, Any]:
    return {name: value for name, value in answer.json().items() if name != "request_id"}
