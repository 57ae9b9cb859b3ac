"""Emails: ask for one, see where it stands, withdraw or put it off while it waits."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query
from starlette.responses import Response

from api import batch, controls, find
from api import responses as answers
from api.deps import EmailId, IdempotencyKey, JsonBody, PartsDep
from api.idempotency import REPLAYED
from api.keys import Key, Scope
from api.parts import AppState
from api.problems import Code, Problem, invalid, responses
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
    WaitQuery,
)
from api.scopes import Reader, Sender
from api.sse import EmailEvents, EventStream
from mailstream.clock import moment
from mailstream.domain import email_id
from mailstream.domain.request import Control, ControlKind
from mailstream.domain.status import EmailStatus
from mailstream.domain.validation import mistakes_of_control

router = APIRouter(tags=["emails"], responses=responses(401, 403, 429, 503))
SOURCE = "POST /v1/emails"


@router.post("/v1/emails", status_code=202, response_model=Receipt, responses=responses(400, 408, 409, 413, 422))
async def ask(
    parts: PartsDep, caller: Sender, key: IdempotencyKey, body: Annotated[EmailBody, Depends(JsonBody(EmailBody))]
) -> Response:
    """Ask for one email. 202 means that Kafka has the request.

    After a 503 it may or may not: ask again with the same Idempotency-Key, it is sent once.
    """
    return await accepted(parts, caller, key, body)


async def accepted(parts: AppState, caller: Key, key: str | None, body: EmailBody) -> Response:
    """The receipt, once Kafka has the request. Raises Problem."""
    begun = parts.clock.monotonic()
    try:
        asked = await parts.content.settled(body.request(), caller, moment(parts.clock.now()), SOURCE, key)
        is_replay = await parts.submit.accepted(asked, caller)
    finally:
        parts.metrics.accept_seconds.observe(parts.clock.monotonic() - begun)
    headers = {"Location": f"/v1/emails/{asked.id}"} | (REPLAYED if is_replay else {})
    return Response(answers.receipt(asked.id or "", asked.reference), 202, headers, "application/json")


@router.post(
    "/v1/emails/batch", status_code=202, response_model=BatchReceipt, responses=responses(400, 408, 409, 413, 422)
)
async def ask_many(
    parts: PartsDep,
    caller: Sender,
    key: IdempotencyKey,
    body: Annotated[bytes, Depends(JsonBody(BatchBody, is_raw=True))],
) -> Response:
    """Ask for up to 1,000 emails at once; results come in the order of the items.

    `strict`: one record in the log, so all are accepted or none is; with one bad item the answer is 422. `permissive`:
    each item by itself. With an Idempotency-Key each item is sent once, even when the first answer was lost.
    """
    asked = await batch.judged(body, parts.content, caller, moment(parts.clock.now()), key)
    results = await batch.submitted(asked, parts.submit, caller, key)
    is_replay = all(isinstance(result, batch.Accepted) and result.is_replay for result in results)
    receipt = answers.batch(asked.mode, results)
    return Response(
        receipt.model_dump_json(exclude_none=True), 202, REPLAYED if is_replay else None, "application/json"
    )


@router.get("/v1/emails/{id}", response_model=EmailAnswer, responses=responses(404, 422))
async def see(parts: PartsDep, caller: Reader, asked: EmailId, query: Annotated[WaitQuery, Query()]) -> Response:
    """Where an email stands. 404 means that the log did not have it when you asked.

    With `wait` the answer comes when the status is final, or after that many seconds.
    """
    return await seen(parts, caller, asked, query.wait)


async def seen(parts: AppState, caller: Key, asked: str, seconds: int = 0) -> Response:
    """Where the caller's email stands, at most so many seconds later. Raises Problem."""
    status = await _found(parts, caller, asked)
    if seconds and not status.final:
        status = await parts.lookup.settle(status.id.encode(), lambda now: now.final, seconds=seconds) or status
    return await _shown(parts, caller, status)


@router.get("/v1/emails", responses=responses(400, 422))
async def see_many(parts: PartsDep, caller: Reader, query: Annotated[ListQuery, Query()]) -> EmailList:
    """Your emails, newest first, `to` always masked. A page may be short while `has_more` is true."""
    await parts.lookup.barrier()
    return await find.page(parts.lookup, parts.listing, caller.tenant, query)


@router.get(
    "/v1/emails/{id}/events",
    status_code=200,
    response_class=EventStream,
    response_description="Server-sent events",
    responses=responses(404),
)
async def follow(
    parts: PartsDep,
    caller: Reader,
    asked: EmailId,
    last_event_id: Annotated[
        str, Header(alias="Last-Event-ID", description="the `id` of the last event that you have")
    ] = "",
) -> Response:
    """The timeline so far, then each fact as it comes: events `status` and `fact`. `Last-Event-ID` resumes."""
    status = await _found(parts, caller, asked)
    after = int(last_event_id) if last_event_id.isascii() and last_event_id.isdecimal() else 0
    return EventStream(EmailEvents(parts.lookup, status.id.encode(), after), parts.streams, caller)


@router.post(
    "/v1/emails/{id}/cancel",
    response_model=EmailAnswer,
    responses=responses(400, 404, 409, 413, 422) | {202: {"model": EmailAnswer}},
)
async def cancel(
    parts: PartsDep,
    caller: Sender,
    asked: EmailId,
    body: Annotated[CancelBody, Depends(JsonBody(CancelBody, is_required=False))],
) -> Response:
    """Withdraw an email. 200: it is cancelled, nothing is ever sent. 409: too late. 202: not decided yet, look later."""
    status = await _found(parts, caller, asked)
    return await _decided(parts, caller, status, controls.cancel(status, caller.name, body.reason))


@router.patch(
    "/v1/emails/{id}",
    response_model=EmailAnswer,
    responses=responses(400, 404, 409, 413, 422) | {202: {"model": EmailAnswer}},
)
async def change(
    parts: PartsDep, caller: Sender, asked: EmailId, body: Annotated[ChangeBody, Depends(JsonBody(ChangeBody))]
) -> Response:
    """Give an email that waits another `send_at`; the answers are those of cancel."""
    status = await _found(parts, caller, asked)
    control = Control(
        kind=ControlKind.RESCHEDULE, id=status.id, by=caller.name, tenant=status.tenant, send_at=body.send_at
    )
    if mistakes := mistakes_of_control(control, now=moment(parts.clock.now())):
        raise invalid(mistakes)
    return await _decided(parts, caller, status, control)


async def _found(parts: AppState, caller: Key, asked: str) -> EmailStatus:
    """The caller's email. Raises Problem 404; Kafka is not asked for what cannot be an id."""
    status = await parts.lookup.find(asked, caller.tenant) if email_id.is_email_id(asked) else None
    if status is None:
        raise Problem(Code.NOT_FOUND, "No email has this id.")
    return status


async def _decided(parts: AppState, caller: Key, status: EmailStatus, control: Control) -> Response:
    is_decided, after = await controls.decide(parts.lookup, parts.submit, status, control)
    return await _shown(parts, caller, after, 200 if is_decided else 202)


async def _shown(parts: AppState, caller: Key, status: EmailStatus, code: int = 200) -> Response:
    shown = await parts.bodies.shown(status) if caller.has(Scope.OPERATE) else None
    answer = answers.email(status, parts.queue.turn_of(status), shown)
    return Response(answer.model_dump_json(), code, media_type="application/json")
