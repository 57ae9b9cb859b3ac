"""The OpenAPI document is valid and true: its routes are the routes, its scopes are what is asked for."""

from typing import Any

import httpx
import pytest
from fastapi.routing import iter_route_contexts
from openapi_spec_validator import validate
from starlette.responses import Response
from starlette.types import Receive
from starlette.types import Scope as Scope_

from api import metrics as api_metrics
from api.app import create_api
from api.keys import DEV_KEY, Key, Scope
from api.middleware import GatewayMiddleware
from mailstream.settings import Settings
from tests.support.api import DEV, an_api, an_email

#: Served beside the document, for people and tools: neither takes or gives data.
AROUND = {"/openapi.json", "/docs", "/docs/{name}", "/problems/{word}"}
#: Routes that need no key.
PUBLIC = {
    ("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/metrics"), ("POST", "/v1/events/sendgrid"),
    ("GET", "/unsubscribe/{token}"), ("POST", "/unsubscribe/{token}"),
}  # fmt: skip
#: A path for each parameter that leads somewhere, and nowhere.
PLACES = {"id": "em_00000000_a", "address": "a@example.com", "token": "x", "name": "x", "batch_id": "b"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    found: dict[str, Any] = create_api(Settings(_env_file=None, dev=True), failed=print).app.openapi()
    return found


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method.upper(), path, each) for path, methods in document["paths"].items() for method, each in methods.items()
    ]


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    validate(document)


def test_the_document_has_every_route_and_no_other(document: dict[str, Any]) -> None:
    app = create_api(Settings(_env_file=None, dev=True), failed=print).app
    routes = {
        (method, str(context.path).replace(":path}", "}"))
        for context in iter_route_contexts(app.routes)
        for method in (context.methods or ())
        if method != "HEAD"
    }

    documented = {(method, path) for method, path, _ in operations(document)}

    assert {(method, path) for method, path in routes if path not in AROUND} == documented


def scope_of(operation: dict[str, Any]) -> Scope | None:
    """The scope that a route asks for; None: it needs no key."""
    scopes = {scope for scheme in operation.get("security", ()) for found in scheme.values() for scope in found}
    assert len(scopes) == bool(operation.get("security")), "a key needs one scope"
    return Scope(scopes.pop()) if scopes else None


def test_every_route_asks_for_a_scope_unless_it_is_public(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        scope = scope_of(operation)
        assert (scope is None) is ((method, path) in PUBLIC), (method, path)
        assert ("401" in operation["responses"]) is (scope is not None or path == "/v1/events/sendgrid"), (method, path)


async def test_what_the_fast_lane_answers_the_application_answers_too(settings: Settings) -> None:
    async with an_api(settings) as api:
        transport = httpx.ASGITransport(without_fast_lane(api.edge), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=DEV) as slow:
            id_ = (await api.ask("k")).json()["id"]
            await api.parts.lookup.barrier()
            asks: list[dict[str, Any]] = [
                {"json": an_email(), "headers": {"Idempotency-Key": "k"}},
                {"json": an_email(subject="Other"), "headers": {"Idempotency-Key": "k"}},
                {"json": an_email(), "headers": {"Idempotency-Key": ""}},
                {"json": {"to": "nobody", "lane": 1}},
                {"content": b"{"},
                {"content": b"x" * 2**21},
                {"json": an_email(), "headers": {"Authorization": ""}},
            ]
            for ask in asks:
                answers = [same_of(await http.post("/v1/emails", **ask)) for http in (api.http, slow)]
                assert answers[0] == answers[1], ask
            for path in (id_, f"{id_}?wait=0", "em_00000000_a", "no id", f"{id_}?what=1"):
                answers = [same_of(await http.get(f"/v1/emails/{path}")) for http in (api.http, slow)]
                assert answers[0] == answers[1], path


def without_fast_lane(edge: GatewayMiddleware) -> GatewayMiddleware:
    """The same API, whose application answers all."""

    async def closed(_: Scope_, __: Receive) -> Response | None:
        return None

    return GatewayMiddleware(edge.app, closed, api_metrics.Metrics(), {})


def same_of(answer: httpx.Response) -> tuple[int, dict[str, str], dict[str, Any]]:
    """What must not depend on the way."""
    body = {name: value for name, value in answer.json().items() if name not in ("request_id", "estimated_at")}
    return answer.status_code, {name: value for name, value in answer.headers.items() if name != "x-request-id"}, body


async def test_a_route_does_only_what_the_scope_of_the_key_allows(settings: Settings, document: dict[str, Any]) -> None:
    """Scope × route, every route listed."""
    async with an_api(settings) as api:
        for method, path, operation in operations(document):
            wanted = scope_of(operation)
            url = path.format(**PLACES)
            if path.endswith("/stream"):
                continue  # goes on for ever when it is allowed; the refusals are below
            for scope in Scope:
                api.parts.keys.replace((key_with(scope),))
                answer = await api.http.request(method, url)
                is_refused = answer.status_code == 403
                allowed = wanted is None or scope in (wanted, Scope.ADMIN)
                assert is_refused is not allowed, (method, path, scope, answer.status_code)
            api.parts.keys.replace(())
            answer = await api.http.request(method, url)
            assert (answer.status_code == 401) is (wanted is not None or path == "/v1/events/sendgrid"), (method, path)


async def test_a_stream_is_refused_without_its_scope(settings: Settings) -> None:
    async with an_api(settings) as api:
        for scope in (Scope.SEND, Scope.OPERATE):
            api.parts.keys.replace((key_with(scope),))
            assert (await api.http.get("/v1/queue/stream")).status_code == 403
        api.parts.keys.replace(())
        assert (await api.http.get("/v1/queue/stream")).status_code == 401


async def test_every_refused_key_gets_the_same_answer(settings: Settings) -> None:
    """Nothing can be learned from the difference."""
    async with an_api(settings) as api:
        bodies = []
        for key in (None, "", "x", "dev ", "de", "x" * 5000, "d\x00ev", "Ä"):
            headers = [(b"Authorization", b"" if key is None else b"Bearer " + key.encode() + b"!")]
            answer = await api.http.get("/v1/queue", headers=headers)
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            bodies.append({name: value for name, value in answer.json().items() if name != "request_id"})
        assert all(body == bodies[0] for body in bodies)


async def test_pages_and_problems_are_served_from_here(settings: Settings) -> None:
    async with an_api(settings) as api:
        page = await api.http.get("/docs")
        assert page.status_code == 200
        assert "https://" not in page.text
        for part in ("/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css"):
            assert part in page.text
            assert (await api.http.get(part)).status_code == 200
        assert (await api.http.get("/docs/../../etc/passwd")).status_code == 404
        refused = (await api.http.get("/nowhere")).json()
        assert (await api.http.get(refused["type"])).status_code == 200


def key_with(scope: Scope) -> Key:
    """The development key with this scope alone."""
    return DEV_KEY.model_copy(update={"scopes": frozenset({scope})})
