"""Many emails in one request: strict (all or none, one record in the log) or permissive (each by itself)."""

import asyncio
import hashlib
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import msgspec
from msgspec import Struct, structs

from api.content import Content, parse
from api.keys import Key
from api.problems import Code, Problem, invalid
from api.schemas import BatchMode, EmailBody
from api.submit import Submit
from mailstream.domain import email_id
from mailstream.domain.request import Batch, EmailRequest, InBatch
from mailstream.domain.validation import Violation, fingerprint_of

ITEMS = 1000
SOURCE = "POST /v1/emails/batch"


class _Body(Struct, forbid_unknown_fields=True):
    """The batch, with its items as the bytes that came: each is judged by itself."""

    items: list[msgspec.Raw]
    mode: BatchMode = BatchMode.STRICT


_decode = msgspec.json.Decoder(_Body).decode


@dataclass(frozen=True, slots=True)
class Accepted:
    """An item that is in the log."""

    request: EmailRequest
    is_replay: bool = False


Result = Accepted | Problem
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Asked:
    """A batch whose items have been judged, in order."""

    source: str  #: the route, as in the emails
    mode: BatchMode
    items: list[EmailRequest | Problem]
    fingerprint: str  #: of the whole body


def read(raw: bytes) -> tuple[BatchMode, list[bytes]]:
    """Mode and items of a body. Raises Problem 400 or 422."""
    try:
        body = _decode(raw)
    except msgspec.ValidationError as error:
        place = str(error).rpartition(" - at `$")[2].rstrip("`")
        pointer = f"/{place.strip('.')}" if place.startswith(".") else ""
        raise invalid(
            [Violation(pointer, "bad_shape", "a batch is {mode: strict or permissive, items: […]}")]
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Problem(Code.NOT_JSON, "The body must be one JSON object in UTF-8.") from None
    if not 1 <= len(body.items) <= ITEMS:
        raise invalid(
            [Violation("/items", "bad_count", f"a batch has 1 to {ITEMS} items; this one has {len(body.items)}")]
        )
    return body.mode, [bytes(item) for item in body.items]


async def judged(raw: bytes, content: Content, caller: Key, now: datetime, key: str | None) -> Asked:
    """Every item of a body as a request, or what is wrong with it. Raises Problem when the batch itself is wrong."""
    mode, parts = read(raw)
    items: list[EmailRequest | Problem] = []
    prints: list[str] = []
    for index, part in enumerate(parts):
        try:
            own = None if key is None else f"{key}/{index}"
            request = await content.settled(parse(EmailBody, part).request(), caller, now, SOURCE, own)
        except Problem as problem:
            items.append(problem)
            prints.append(_print_of(part, caller))
            continue
        items.append(request)
        prints.append(request.fingerprint or "")
        if index % 50 == 49:
            await asyncio.sleep(0)  # others get their turn
    if mode is BatchMode.STRICT:
        _require_all(items)
    return Asked(SOURCE, mode, items, fingerprint_of_body(mode, prints))


def fingerprint_of_body(mode: BatchMode, items: Sequence[str]) -> str:
    """What was asked as a whole: how, how many, in which order, and what each item asks."""
    return hashlib.sha256("\n".join((mode, str(len(items)), *items)).encode()).hexdigest()[:32]


def _print_of(part: bytes, caller: Key) -> str:
    """What an item asks that cannot be taken now: the same as it would be if it could."""
    try:
        asked = parse(EmailBody, part).request()
    except Problem:
        return hashlib.sha256(part).hexdigest()
    return fingerprint_of(structs.replace(asked, tenant=caller.tenant, source=SOURCE))


async def submitted(asked: Asked, submit: Submit, caller: Key, key: str | None) -> list[Result]:
    """Put the batch into the log; results in order. Raises Problem when nothing at all could be accepted."""
    id_ = _batch_id(asked.source, caller, key)
    items = [item for item in asked.items if isinstance(item, EmailRequest)]
    mark = InBatch(id_, asked.fingerprint) if key is not None else None
    if asked.mode is BatchMode.STRICT:
        batch = Batch(items=tuple(items), id=id_, tenant=caller.tenant, fingerprint=mark.fingerprint if mark else None)
        counted = submit.new_among(items)
        with submit.quota.taken(caller, counted) as others:
            if is_replay := await submit.batch(batch):
                others += counted
        return [Accepted(item, is_replay) for item in items]
    if mark is not None and items:
        await submit.claim(mark, caller.tenant)

    async def one(item: EmailRequest | Problem) -> Accepted:
        if isinstance(item, Problem):
            raise item
        return Accepted(item, await submit.accepted(structs.replace(item, batch=mark), caller))

    results = await asyncio.gather(*(_tried(one(item)) for item in asked.items))
    refusals = [result for result in results if isinstance(result, Problem)]
    if len(refusals) == len(results) and all(refusal.code.status in (429, 503) for refusal in refusals):
        raise refusals[0]
    return list(results)


async def submitted_whole(
    items: list[EmailRequest], fingerprint: str, source: str, submit: Submit, caller: Key, key: str | None
) -> list[Accepted]:
    """Put emails into the log that are too large for one record, all of them: what can be judged is judged before.

    Raises Problem: then nothing was accepted, but for an outage between two records. The answer says so.
    """
    mark = None if key is None else InBatch(_batch_id(source, caller, key), fingerprint)
    marked = [structs.replace(item, batch=mark) for item in items]
    submit.require_room(marked)
    counted = submit.new_among(marked)
    with submit.quota.taken(caller, counted) as others:
        if mark is not None:
            await submit.claim(mark, caller.tenant)
        results = await asyncio.gather(*(_tried(submit.once(item)) for item in marked))
        new = {item.id for item, result in zip(marked, results, strict=True) if result is False}
        others += [item for item in counted if item.id not in new]
    refusals = [result for result in results if isinstance(result, Problem)]
    outage = next((refusal for refusal in refusals if refusal.code.status == 503), None)
    if outage is not None and len(refusals) < len(results):
        advice = "Ask again with the same Idempotency-Key: each is sent once."
        if key is None:
            advice = "Without an Idempotency-Key, asking again sends those a second time."
        raise Problem(outage.code, f"Some of the emails were accepted, others may not be. {advice}")
    if refusals:
        raise outage or refusals[0]
    return [Accepted(item, result is True) for item, result in zip(marked, results, strict=True)]


async def _tried(work: Awaitable[T]) -> T | Problem:
    """What comes of it, or the problem that it raises."""
    try:
        return await work
    except Problem as problem:
        return problem


def _batch_id(source: str, caller: Key, key: str | None) -> str:
    """Of the same form as an email id, so that it names its partition; the same key gives the same id."""
    name = f"batch of {caller.tenant}"
    return email_id.new(name) if key is None else email_id.derived(caller.tenant, source, key, name)


def _require_all(items: list[EmailRequest | Problem]) -> None:
    """Raise Problem when one is bad: 422, or 403 when all that is wrong is who may send."""
    refusals = [(index, item) for index, item in enumerate(items) if isinstance(item, Problem)]
    if not refusals:
        return
    mistakes = [
        Violation(f"/items/{index}{mistake.pointer}", mistake.code, mistake.detail)
        for index, refusal in refusals
        for mistake in (refusal.errors or [Violation("", refusal.code.word, refusal.detail)])
    ]
    codes = {refusal.code for _, refusal in refusals}
    code = codes.pop() if len(codes) == 1 and not any(refusal.errors for _, refusal in refusals) else Code.INVALID
    raise Problem(code, "The batch has mistakes; `errors` names each. Nothing was accepted.", errors=mistakes)
