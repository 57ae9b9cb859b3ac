"""SendGrid's own routes: an existing client works with only its host and key changed. Errors are SendGrid's, too."""

import asyncio
import secrets
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from msgspec import structs
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from api import batch, controls
from api.auth import KEY, caller_of
from api.content import parse
from api.idempotency import REPLAYED, key_of
from api.keys import Key, Scope
from api.mail_send import BATCH_ID_FORM, BatchIdAnswer, MailSendBody, ScheduledSendBody
from api.mail_send_emails import emails_of, mistakes_of, reference_of
from api.parts import Parts, parts_of
from api.plain_route import PlainRoute
from api.problems import Code, Problem, invalid
from api.route_docs import BATCH_ID, IDEMPOTENCY_KEY, body_of, sendgrid_errors
from api.schemas import BatchMode
from mailstream import codec, email_id
from mailstream.clock import moment
from mailstream.mistakes import Mistake
from mailstream.recipient import canonical
from mailstream.request import EmailRequest
from mailstream.topics import MAX_REQUEST_BYTES

router = APIRouter(tags=["sendgrid"], route_class=PlainRoute)
SOURCE = "POST /v3/mail/send"
CANCELS_AT_ONCE = 100
SANDBOXED: dict[int | str, dict[str, Any]] = {200: {"description": "In sandbox mode: a test, sent to nobody"}}


@router.post(
    "/v3/mail/send",
    status_code=202,
    response_class=Response,
    dependencies=[KEY],
    responses=SANDBOXED | sendgrid_errors(400, 401, 403, 408, 409, 413, 429, 503),
    openapi_extra=body_of(MailSendBody) | {"parameters": [IDEMPOTENCY_KEY], "x-scope": Scope.SEND},
)
async def send(request: Request) -> Response:
    """SendGrid's request: one email for each `to` of each personalization. `X-Message-Id` is the id of the first."""
    parts, caller = parts_of(request), caller_of(request, Scope.SEND)
    key = key_of(request)
    mail = parse(MailSendBody, await request.body())
    emails = await _settled(parts, caller, mail, key)
    mode = BatchMode.STRICT if len(emails) > 1 and _fit_in_one_record(emails) else BatchMode.PERMISSIVE
    fingerprint = batch.fingerprint_of_body(mode, [email.fingerprint or "" for email in emails])
    results: Sequence[batch.Result]
    if mode is BatchMode.STRICT:
        asked = batch.Asked(SOURCE, mode, list(emails), fingerprint)
        results = await batch.submitted(asked, parts.submit, parts.quota, caller, key)
    else:
        results = await batch.submitted_whole(emails, fingerprint, SOURCE, parts.submit, parts.quota, caller, key)
    is_replay = all(isinstance(result, batch.Accepted) and result.is_replay for result in results)
    headers = {"X-Message-Id": emails[0].id or ""} | (REPLAYED if is_replay else {})
    return Response(status_code=200 if mail.is_sandboxed() else 202, headers=headers)


@router.post(
    "/v3/mail/batch",
    status_code=201,
    response_model=BatchIdAnswer,
    dependencies=[KEY],
    responses=sendgrid_errors(401, 403, 429),
    openapi_extra={"x-scope": Scope.SEND},
)
async def new_batch_id(request: Request) -> Response:
    """An id to send emails under, by which they can be cancelled together."""
    caller_of(request, Scope.SEND)
    return _json(BatchIdAnswer(batch_id=secrets.token_urlsafe(24)), 201)


@router.get(
    "/v3/mail/batch/{batch_id}",
    response_model=BatchIdAnswer,
    dependencies=[KEY],
    responses=sendgrid_errors(400, 401, 403, 429),
    openapi_extra={"parameters": [BATCH_ID], "x-scope": Scope.SEND},
)
async def check_batch_id(request: Request) -> Response:
    """Whether a batch id can be used: any of the right form can."""
    caller_of(request, Scope.SEND)
    batch_id = request.path_params["batch_id"]
    if not BATCH_ID_FORM.fullmatch(batch_id):
        raise invalid([Mistake("/batch_id", "bad_value", "This is no batch id.")])
    return _json(BatchIdAnswer(batch_id=batch_id), 200)


@router.post(
    "/v3/user/scheduled_sends",
    status_code=201,
    response_model=ScheduledSendBody,
    dependencies=[KEY],
    responses=sendgrid_errors(400, 401, 403, 408, 413, 429, 503),
    openapi_extra=body_of(ScheduledSendBody) | {"x-scope": Scope.SEND},
)
async def cancel_batch(request: Request) -> Response:
    """Cancel what waits under a batch id; what has begun stays as it is."""
    parts, caller = parts_of(request), caller_of(request, Scope.SEND)
    body = parse(ScheduledSendBody, await request.body())
    await parts.lookup.barrier()
    keys = parts.listing.with_reference(caller.tenant, reference_of(body.batch_id))
    room = asyncio.Semaphore(CANCELS_AT_ONCE)
    await asyncio.gather(*(_cancel(parts, caller, key, reference_of(body.batch_id), room) for key in keys))
    return _json(body, 201)


async def _settled(parts: Parts, caller: Key, mail: MailSendBody, key: str | None) -> list[EmailRequest]:
    """The emails of a request, ready for the log. Raises Problem with every mistake, each at SendGrid's place."""
    mistakes = dict.fromkeys(mistakes_of(mail))
    now, emails = moment(parts.clock.now()), []
    for index, part in enumerate(emails_of(mail)):
        try:
            email = await parts.content.settled(part.request, caller, now, SOURCE)
        except Problem as problem:
            if problem.code is not Code.INVALID:
                raise
            mistakes |= dict.fromkeys(part.field(mistake) for mistake in problem.errors)
            continue
        recipient = canonical(email.to.email)
        own = None if key is None else f"{key}/{index}"
        id_ = email_id.new(recipient) if own is None else email_id.derived(caller.tenant, SOURCE, own, recipient)
        emails.append(structs.replace(email, id=id_, idempotency_key=own))
    if mistakes:
        raise invalid(list(mistakes))
    return emails


def _fit_in_one_record(emails: list[EmailRequest]) -> bool:
    """Whether they can be accepted together or not at all; else each is accepted by itself.

    The same for the same body, so the time of asking, which may be short or long as text, counts as long.
    """
    bodies = (structs.replace(email, requested_at=None) for email in emails)
    return sum(len(codec.encode(body)) + 60 for body in bodies) + 400 <= MAX_REQUEST_BYTES


async def _cancel(parts: Parts, caller: Key, key: bytes, reference: str, room: asyncio.Semaphore) -> None:
    async with room:
        status = parts.lookup.known(key)
        if status is None or status.tenant != caller.tenant or status.reference != reference:
            return
        try:
            word = controls.cancel(status, caller.name, "cancelled with its batch id")
            await controls.decide(parts.lookup, parts.submit, status, word)
        except Problem as problem:
            if problem.code is not Code.ALREADY_SENDING:
                raise


def _json(answer: BaseModel, status: int) -> Response:
    return Response(answer.model_dump_json(), status, media_type="application/json")
