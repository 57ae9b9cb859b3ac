"""The one place where the parts of the API are put together."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path

from api import key_file, keys
from api.append import IN_FLIGHT, Append
from api.content import Content
from api.deps import JsonBody
from api.fast_lane import fast_answer
from api.inbound.webhook import Webhook
from api.keys import Keys
from api.metrics import Metrics
from api.middleware import GatewayMiddleware
from api.parts import AppState
from api.problems import Problem, ProblemBody, problem_of, response_of
from api.quota import Quota
from api.rate_limits import Rates
from api.routes import (
    dead_letters,
    docs,
    emails,
    events,
    health,
    queue,
    sendgrid_v3,
    suppressions,
    templates,
    unsubscribe,
)
from api.submit import Submit
from api.suppressions import Suppressions, SuppressionView
from api.view.background import begun
from api.view.bodies import Bodies
from api.view.listing import Listing
from api.view.lookup import Lookup
from api.view.queue import QueueView
from mailstream.clock import Clock, SystemClock
from mailstream.domain import topics
from mailstream.domain.errors import NotCaughtUp
from mailstream.domain.topics import MIB
from mailstream.domain.unsubscribe import Unsubscribe
from mailstream.kafka import admin as check
from mailstream.kafka.broker_clock import BrokersClock
from mailstream.kafka.config import admin
from mailstream.kafka.producer import Publisher
from mailstream.settings import Settings

VERSION = "1"
#: A permissive batch is bounded by its items, not by a record.
BATCH_BYTES = 16 * MIB
#: A record waits no longer for its acknowledgement than a caller does for its answer.
MESSAGE_SECONDS = 2.0


def create_api(
    settings: Settings, clock: Clock | None = None, *, failed: Callable[[Exception], None]
) -> GatewayMiddleware:
    """The API; its parts are made when it starts. Starting raises WrongSettings, TopicsDiffer.

    ``failed`` is told on the loop when it cannot follow or write the log any more: the process must end.
    """
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.parts = parts = await _start(settings, metrics, clock or SystemClock(), failed)
        following = [begun(key_file.follow(settings, parts.keys), failed), begun(parts.clock.run(), failed)]
        try:
            yield
        finally:
            for task in following:
                task.cancel()
            await _stop(parts)

    app = FastAPI(
        title="mailstream",
        version=VERSION,
        description="An event-stream mail sender on Kafka: nothing lost, nothing sent twice, never faster than the gap.",
        lifespan=lifespan,
        strict_content_type=False,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    for routes in (
        emails, events, queue, suppressions, templates, dead_letters, unsubscribe, sendgrid_v3, health, docs
    ):  # fmt: skip
        app.include_router(routes.router)
    for kind in (Problem, NotCaughtUp, HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(kind, _problem)
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]  # FastAPI's own way to extend the document
    return GatewayMiddleware(app, fast_answer, metrics, {"/v1/emails/batch": BATCH_BYTES})


async def _start(
    settings: Settings, metrics: Metrics, machines: Clock, failed: Callable[[Exception], None]
) -> AppState:
    callers, content = Keys(keys.load(settings)), Content(settings)
    brokers = admin(settings)
    naming = topics.Naming(settings.topic_prefix)
    suppressed, suppressed_topic = SuppressionView(), naming.of(topics.SUPPRESSIONS)
    publisher = Publisher(settings, failed=failed, in_flight=IN_FLIGHT, message_seconds=MESSAGE_SECONDS)
    clock = BrokersClock(
        machines,
        publisher,
        naming.of(topics.REQUESTED),
        alarm="the brokers' time is used instead of this machine's",
        looked=lambda seconds, _: metrics.clock_error_seconds.set(seconds),
    )
    bodies = Bodies(settings)
    also = {suppressed_topic: suppressed.apply}
    lookup = Lookup(settings, clock, metrics, bodies=bodies, also=also, failed=failed)
    listing, waiting = Listing(lookup.has), QueueView(settings, clock)
    quota = Quota(clock)
    for follower in (listing.changed, waiting.changed, quota.changed):
        lookup.follow(follower)
    await lookup.start(lambda: check.require(brokers, settings), listing.loaded)
    append = Append(publisher, lookup)
    return AppState(
        settings=settings,
        clock=clock,
        metrics=metrics,
        keys=callers,
        rates=Rates(clock),
        content=content,
        lookup=lookup,
        listing=listing,
        queue=waiting,
        bodies=bodies,
        publisher=publisher,
        submit=Submit(settings, append, lookup, quota),
        webhook=Webhook(settings, publisher, lookup, clock),
        suppressions=Suppressions(suppressed, suppressed_topic, settings.partitions, append, lookup),
        unsubscribe=Unsubscribe(settings.public_url, settings.unsubscribe_key),
    )


async def _stop(parts: AppState) -> None:
    parts.stop_waiting()
    await parts.publisher.close(MESSAGE_SECONDS)
    await parts.lookup.close()
    await parts.content.close()


async def _problem(request: Request, error: Exception) -> Response:
    """In our form; of a path with several routes the framework names the methods of one only."""
    if isinstance(error, HTTPException) and error.status_code == 405:
        path = request.url.path
        contexts = [each for each in iter_route_contexts(request.app.routes) if each.path is not None]
        # a path of its own wins over one with a parameter that it would fit, too
        fitting = [each for each in contexts if each.path == path] or [
            each for each in contexts if compile_path(each.path or "")[0].match(path)
        ]
        allowed = sorted({method for each in fitting for method in each.methods or ()})
        error = HTTPException(405, headers={"Allow": ", ".join(allowed)})
    return response_of(problem_of(error, request.scope), request.scope)


def _document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with the bodies that are read by a dependency, and our problems for FastAPI's."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        models: list[type[BaseModel]] = [ProblemBody]
        for each in iter_route_contexts(app.routes):
            calls = (
                [found.call for found in each.dependant.dependencies]
                if isinstance(each.original_route, APIRoute)
                else []
            )
            for body in (call for call in calls if isinstance(call, JsonBody)):
                models.append(body.model)
                schema = {"$ref": f"#/components/schemas/{body.model.__name__}"}
                for method in each.methods or ():
                    document["paths"][each.path_format][method.lower()]["requestBody"] = {
                        "required": body.is_required,
                        "content": {"application/json": {"schema": schema}},
                    }
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        _, found = models_json_schema(
            [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
        )
        schemas |= found["$defs"]
        for operation in (each for path in document["paths"].values() for each in path.values()):
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]  # of routes with nothing but text in their path: it always fits
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        app.openapi_schema = document
    return app.openapi_schema
