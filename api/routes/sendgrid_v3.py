"""SendGrid's own routes: an existing client works with only its host and key changed. Errors are SendGrid's, too."""

import asyncio
import secrets
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from msgspec import structs
from starlette.responses import Response

from api import batch, controls
from api.deps import IdempotencyKey, JsonBody, PartsDep
from api.idempotency import REPLAYED
from api.keys import Key
from api.parts import AppState
from api.problems import Code, Problem, invalid
from api.schemas import BatchMode
from api.scopes import Sender
from api.sendgrid_v3.convert import emails_of, mistakes_of, reference_of
from api.sendgrid_v3.schemas import BATCH_ID_FORM, BatchIdAnswer, MailSendBody, ScheduledSendBody, SendGridErrors
from mailstream.clock import moment
from mailstream.domain import codec
from mailstream.domain.request import EmailRequest
from mailstream.domain.topics import MAX_REQUEST_BYTES
from mailstream.domain.validation import Violation


def sendgrid_errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors of SendGrid's own routes, in its form."""
    return {status: {"model": SendGridErrors, "description": "SendGrid's error body"} for status in statuses}


router = APIRouter(tags=["sendgrid"], responses=sendgrid_errors(401, 403, 429))
SOURCE = "POST /v3/mail/send"
CANCELS_AT_ONCE = 100


@router.post(
    "/v3/mail/send",
    status_code=202,
    response_class=Response,
    responses=sendgrid_errors(400, 408, 409, 413, 503) | {200: {"description": "In sandbox mode: a test, not sent"}},
)
async def send(
    parts: PartsDep, caller: Sender, key: IdempotencyKey, mail: Annotated[MailSendBody, Depends(JsonBody(MailSendBody))]
) -> Response:
    """SendGrid's request: one email for each `to` of each personalization. `X-Message-Id` is the id of the first."""
    emails = await _settled(parts, caller, mail, key)
    mode = BatchMode.STRICT if len(emails) > 1 and _fit_in_one_record(emails) else BatchMode.PERMISSIVE
    fingerprint = batch.fingerprint_of_body(mode, [email.fingerprint or "" for email in emails])
    results: Sequence[batch.Result]
    if mode is BatchMode.STRICT:
        asked = batch.Asked(SOURCE, mode, list(emails), fingerprint)
        results = await batch.submitted(asked, parts.submit, caller, key)
    else:
        results = await batch.submitted_whole(emails, fingerprint, SOURCE, parts.submit, caller, key)
    is_replay = all(isinstance(result, batch.Accepted) and result.is_replay for result in results)
    headers = {"X-Message-Id": emails[0].id or ""} | (REPLAYED if is_replay else {})
    return Response(status_code=200 if mail.is_sandboxed() else 202, headers=headers)


@router.post("/v3/mail/batch", status_code=201)
async def new_batch_id(_: Sender) -> BatchIdAnswer:
    """An id to send emails under, by which they can be cancelled together."""
    return BatchIdAnswer(batch_id=secrets.token_urlsafe(24))


@router.get("/v3/mail/batch/{batch_id}", responses=sendgrid_errors(400))
async def check_batch_id(_: Sender, batch_id: str) -> BatchIdAnswer:
    """Whether a batch id can be used: any of the right form can."""
    if not BATCH_ID_FORM.fullmatch(batch_id):
        raise invalid([Violation("/batch_id", "bad_value", "This is not a batch id.")])
    return BatchIdAnswer(batch_id=batch_id)


@router.post("/v3/user/scheduled_sends", status_code=201, responses=sendgrid_errors(400, 408, 413, 503))
async def cancel_batch(
    parts: PartsDep, caller: Sender, body: Annotated[ScheduledSendBody, Depends(JsonBody(ScheduledSendBody))]
) -> ScheduledSendBody:
    """Cancel what waits under a batch id; what has begun stays as it is."""
    await parts.lookup.barrier()
    keys = parts.listing.with_reference(caller.tenant, reference_of(body.batch_id))
    room = asyncio.Semaphore(CANCELS_AT_ONCE)
    await asyncio.gather(*(_cancel(parts, caller, key, reference_of(body.batch_id), room) for key in keys))
    return body


async def _settled(parts: AppState, caller: Key, mail: MailSendBody, key: str | None) -> list[EmailRequest]:
    """The emails of a request, ready for the log. Raises Problem with every mistake, each at SendGrid's place."""
    mistakes = dict.fromkeys(mistakes_of(mail))
    now, emails = moment(parts.clock.now()), []
    for index, part in enumerate(emails_of(mail)):
        try:
            own = None if key is None else f"{key}/{index}"
            emails.append(await parts.content.settled(part.request, caller, now, SOURCE, own))
        except Problem as problem:
            if problem.code is not Code.INVALID:
                raise
            mistakes |= dict.fromkeys(part.field(mistake) for mistake in problem.errors)
    if mistakes:
        raise invalid(list(mistakes))
    return emails


def _fit_in_one_record(emails: list[EmailRequest]) -> bool:
    """Whether they can be accepted together or not at all; else each is accepted by itself.

    The same for the same body, so the time of asking, which may be short or long as text, counts as long.
    """
    bodies = (structs.replace(email, requested_at=None) for email in emails)
    return sum(len(codec.encode(body)) + 60 for body in bodies) + 400 <= MAX_REQUEST_BYTES


async def _cancel(parts: AppState, caller: Key, key: bytes, reference: str, room: asyncio.Semaphore) -> None:
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
