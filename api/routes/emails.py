"""Emails: ask for one, see where it stands, withdraw or put it off while it waits."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from msgspec import structs
from starlette.requests import Request
from starlette.responses import Response

from api import answers, batch, controls, find
from api.auth import KEY, caller_of
from api.content import parse
from api.controls import Decision
from api.email_events import EmailEvents, after_of
from api.event_stream import EventStream
from api.idempotency import REPLAYED, key_of
from api.keys import Key, Scope
from api.parts import Parts, parts_of
from api.plain_route import PlainRoute
from api.problems import Code, Problem, invalid, responses
from api.route_docs import EVENTS, ID, IDEMPOTENCY_KEY, LAST_EVENT_ID, WAIT, body_of
from api.schemas import (
    BatchBody,
    BatchReceipt,
    CancelBody,
    ChangeBody,
    EmailAnswer,
    EmailBody,
    EmailList,
    ListQuery,
    Receipt,
)
from mailstream import email_id
from mailstream.clock import moment
from mailstream.mistakes import Mistake, mistakes_of_control
from mailstream.recipient import canonical
from mailstream.request import Control, EmailRequest
from mailstream.status import EmailStatus

router = APIRouter(tags=["emails"], route_class=PlainRoute)
listing = APIRouter(tags=["emails"])

WAIT_SECONDS = 60


@router.post(
    "/v1/emails",
    status_code=202,
    response_model=Receipt,
    dependencies=[KEY],
    responses=responses(400, 401, 403, 408, 409, 413, 422, 429, 503),
    openapi_extra=body_of(EmailBody) | {"parameters": [IDEMPOTENCY_KEY], "x-scope": Scope.SEND},
)
async def ask(request: Request) -> Response:
    """Ask for one email. 202 means that Kafka has the request.

    After a 503 it may or may not: ask again with the same Idempotency-Key, it is sent once.
    """
    parts, caller = parts_of(request), caller_of(request, Scope.SEND)
    key = key_of(request)
    body = parse(EmailBody, await request.body())
    begun = parts.clock.monotonic()
    try:
        source = "POST /v1/emails"
        asked = await parts.content.settled(body.request(), caller, moment(parts.clock.now()), source)
        recipient = canonical(asked.to.email)
        id_ = email_id.new(recipient) if key is None else email_id.derived(caller.tenant, source, key, recipient)
        asked = structs.replace(asked, id=id_, idempotency_key=key)
        is_replay = await _submitted(parts, caller, asked)
    finally:
        parts.metrics.accept_seconds.observe(parts.clock.monotonic() - begun)
    headers = {"Location": f"/v1/emails/{id_}"} | (REPLAYED if is_replay else {})
    return Response(answers.receipt(id_, asked.reference), 202, headers, "application/json")


@router.post(
    "/v1/emails/batch",
    status_code=202,
    response_model=BatchReceipt,
    dependencies=[KEY],
    responses=responses(400, 401, 403, 408, 409, 413, 422, 429, 503),
    openapi_extra=body_of(BatchBody) | {"parameters": [IDEMPOTENCY_KEY], "x-scope": Scope.SEND},
)
async def ask_many(request: Request) -> Response:
    """Ask for up to 1,000 emails at once; results come in the order of the items.

    `strict`: one record in the log, so all are accepted or none is; with one bad item the answer is 422. `permissive`:
    each item by itself. With an Idempotency-Key each item is sent once, whatever became of the first answer.
    """
    parts, caller = parts_of(request), caller_of(request, Scope.SEND)
    key = key_of(request)
    asked = await batch.judged(await request.body(), parts.content, caller, moment(parts.clock.now()), key)
    results = await batch.submitted(asked, parts.submit, parts.quota, caller, key)
    is_replay = all(isinstance(result, batch.Accepted) and result.is_replay for result in results)
    receipt = answers.batch(asked.mode, results)
    return Response(
        receipt.model_dump_json(exclude_none=True), 202, REPLAYED if is_replay else None, "application/json"
    )


@router.get(
    "/v1/emails/{id}",
    response_model=EmailAnswer,
    dependencies=[KEY],
    responses=responses(401, 403, 404, 422, 429, 503),
    openapi_extra={"parameters": [ID, WAIT], "x-scope": Scope.READ},
)
async def see(request: Request) -> Response:
    """Where an email stands. 404 means that the log did not have it when you asked.

    With `wait` the answer comes when the status is final, or after that many seconds.
    """
    parts, caller = parts_of(request), caller_of(request, Scope.READ)
    seconds = _wait_of(request)
    status = await _found(parts, caller, request.path_params["id"])
    if seconds and not status.final:
        status = await parts.lookup.settle(status.id.encode(), lambda now: now.final, seconds=seconds) or status
    return await _shown(parts, caller, status)


@listing.get(
    "/v1/emails",
    dependencies=[KEY],
    responses=responses(400, 401, 403, 422, 429, 503),
    openapi_extra={"x-scope": Scope.READ},
)
async def see_many(request: Request, query: Annotated[ListQuery, Query()]) -> EmailList:
    """Your emails, newest first, `to` always masked. A page may be short while `has_more` is true."""
    parts, caller = parts_of(request), caller_of(request, Scope.READ)
    await parts.lookup.barrier()
    page = await find.page(parts.lookup, parts.listing, caller.tenant, query)
    return EmailList(
        data=[answers.email(status) for status in page.emails], has_more=page.next is not None, next=page.next
    )


@router.get(
    "/v1/emails/{id}/events",
    dependencies=[KEY],
    responses=responses(401, 403, 404, 429, 503) | EVENTS,
    openapi_extra={"parameters": [ID, LAST_EVENT_ID], "x-scope": Scope.READ},
)
async def follow(request: Request) -> Response:
    """The timeline so far, then each fact as it comes: events `status` and `fact`. `Last-Event-ID` resumes."""
    parts, caller = parts_of(request), caller_of(request, Scope.READ)
    status = await _found(parts, caller, request.path_params["id"])
    source = EmailEvents(parts.lookup, status.id.encode(), after_of(request.headers.get("last-event-id")))
    return EventStream(source, parts.streams, caller)


@router.post(
    "/v1/emails/{id}/cancel",
    response_model=EmailAnswer,
    dependencies=[KEY],
    responses=responses(400, 401, 403, 404, 409, 413, 422, 429, 503) | {202: {"model": EmailAnswer}},
    openapi_extra=body_of(CancelBody, required=False) | {"parameters": [ID], "x-scope": Scope.SEND},
)
async def cancel(request: Request) -> Response:
    """Withdraw an email. 200: it is cancelled, nothing is ever sent. 409: too late. 202: not decided yet, look later."""
    parts, caller = parts_of(request), caller_of(request, Scope.SEND)
    body = parse(CancelBody, await request.body() or b"{}")
    status = await _found(parts, caller, request.path_params["id"])
    return await _decided(parts, caller, status, controls.cancel(status, caller.name, body.reason))


@router.patch(
    "/v1/emails/{id}",
    response_model=EmailAnswer,
    dependencies=[KEY],
    responses=responses(400, 401, 403, 404, 409, 413, 422, 429, 503) | {202: {"model": EmailAnswer}},
    openapi_extra=body_of(ChangeBody) | {"parameters": [ID], "x-scope": Scope.SEND},
)
async def change(request: Request) -> Response:
    """Give an email that waits another `send_at`; the answers are those of cancel."""
    parts, caller = parts_of(request), caller_of(request, Scope.SEND)
    body = parse(ChangeBody, await request.body())
    status = await _found(parts, caller, request.path_params["id"])
    control = controls.reschedule(status, caller.name, body.send_at)
    if mistakes := mistakes_of_control(control, now=moment(parts.clock.now())):
        raise invalid(mistakes)
    return await _decided(parts, caller, status, control)


async def _submitted(parts: Parts, caller: Key, asked: EmailRequest) -> bool:
    """Put the email into the log, within the key's quota. True: it was asked for before."""
    with parts.quota.taken(caller, (asked,)) as taken:
        if asked.idempotency_key is None:
            await parts.submit.new(asked)
        else:
            taken.was_new = not await parts.submit.once(asked)
    return not taken.was_new


async def _found(parts: Parts, caller: Key, asked: str) -> EmailStatus:
    """The caller's email. Raises Problem 404; what is no id at all never reaches Kafka."""
    status = await parts.lookup.find(asked, caller.tenant) if email_id.is_email_id(asked) else None
    if status is None:
        raise Problem(Code.NOT_FOUND, "No email has this id.")
    return status


async def _decided(parts: Parts, caller: Key, status: EmailStatus, control: Control) -> Response:
    decision, after = await controls.decide(parts.lookup, parts.submit, status, control)
    return await _shown(parts, caller, after, 200 if decision is Decision.DONE else 202)


async def _shown(parts: Parts, caller: Key, status: EmailStatus, code: int = 200) -> Response:
    shown = await parts.bodies.shown(status) if caller.has(Scope.OPERATE) else None
    answer = answers.email(status, parts.queue.turn_of(status), shown)
    return Response(answer.model_dump_json(), code, media_type="application/json")


def _wait_of(request: Request) -> int:
    """Seconds to wait for a final status. Raises Problem 422."""
    if not request.scope["query_string"]:
        return 0
    query: dict[str, Any] = dict(request.query_params)
    text = query.pop("wait", "0")
    if query:
        raise invalid([Mistake("", "unknown_member", "the only parameter is `wait`")])
    if not (text.isascii() and text.isdecimal() and int(text) <= WAIT_SECONDS):
        raise invalid([Mistake("/wait", "bad_value", f"whole seconds from 0 to {WAIT_SECONDS}")])
    return int(text)
