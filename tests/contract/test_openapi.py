"""The OpenAPI document is valid and true: its routes are the routes, its scopes are what is asked for."""

from typing import Any

import pytest
from fastapi.routing import APIRoute, iter_route_contexts
from openapi_spec_validator import validate

from api.app import HOT, create_api
from api.keys import DEV_KEY, Key, Scope
from api.route_docs import PUBLIC
from mailstream.settings import Settings
from tests.support.api import an_api

#: Served beside the document, for people and tools: neither takes or gives data.
AROUND = {"/openapi.json", "/docs", "/docs/{name}", "/problems/{word}"}
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


def test_every_route_names_its_scope_and_each_scope_needs_a_key(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        assert "x-scope" in operation, (method, path)
        needs_a_key = operation["x-scope"] != PUBLIC
        assert bool(operation.get("security")) is needs_a_key, (method, path)
        assert ("401" in operation["responses"]) is (needs_a_key or path == "/v1/events/sendgrid"), (method, path)


def test_hot_routes_are_documented_where_they_are_served() -> None:
    app = create_api(Settings(_env_file=None, dev=True), failed=print).app
    routes = {
        (method, context.path): context.original_route
        for context in iter_route_contexts(app.routes)
        for method in (context.methods or ())
    }

    for method, path in HOT:
        assert isinstance(routes[method, path], APIRoute)


async def test_a_route_does_only_what_the_scope_of_the_key_allows(settings: Settings, document: dict[str, Any]) -> None:
    """Security S7: scope × route, every route listed."""
    async with an_api(settings) as api:
        for method, path, operation in operations(document):
            wanted = None if operation["x-scope"] == PUBLIC else operation["x-scope"]
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
    """Security S4: nothing can be learned from the difference."""
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
