"""A service that asks for emails, changes its mind and looks, over HTTP, at the replica that it is told."""

import contextlib
import hashlib
import itertools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import httpx

from api.problems import Code
from mailstream.domain.recipient import canonical
from mailstream.domain.request import ControlKind
from mailstream.domain.status import Status, rank_of
from tests.support.history_logs import Ask, Lookup, Result, Word
from tests.support.mail_system import KEY, an_address
from tests.support.run_log import RunLog, seconds_of

#: An API answers within two seconds, a cancel after five at the latest; a killed one never does.
PATIENCE_SECONDS = 10.0
REPLAYED = "Idempotent-Replayed"

_batches = itertools.count(1)


class ApiCaller:
    """Notes each question and its answer. ``urls``: of each replica by its name."""

    def __init__(self, urls: Mapping[str, str], log: RunLog) -> None:
        self._urls, self._log = urls, log
        self._http = httpx.AsyncClient(headers=KEY, timeout=PATIENCE_SECONDS)

    async def ask(
        self, to: str | None = None, *, key: str | None = None, replica: str = "api-0", **members: Any
    ) -> str | None:
        """One email. Returns its id, None when the API did not take it or did not answer."""
        body = {"to": to or an_address(), "subject": "Hello", "text": "Hello there", **members}
        asked, answer = await self._post("/v1/emails", body, key, replica)
        if answer is not None and asked.result is Result.OK:
            asked = replace(asked, id=answer.json()["id"])
        self._log.asks.append(_about(asked, body))
        return asked.id

    async def ask_many(
        self, items: Sequence[dict[str, Any]], *, mode: str, key: str | None = None, replica: str = "api-0"
    ) -> list[str]:
        """A batch. Returns the ids of the items that were taken, in order."""
        asked, answer = await self._post("/v1/emails/batch", {"mode": mode, "items": items}, key, replica)
        asked = replace(asked, batch=f"batch-{next(_batches)}", mode=mode)
        results = answer.json()["results"] if answer is not None and asked.result is Result.OK else [{}] * len(items)
        ids = []
        for number, (item, result) in enumerate(zip(items, results, strict=True)):
            mine = replace(asked, item=number)
            if (id_ := result.get("id")) is not None:
                mine = replace(mine, id=id_)
                ids.append(id_)
            elif (word := result.get("code")) is not None:
                code = next(code.status for code in Code if code.word == word)
                mine = replace(mine, code=code, result=_result_of(code))
            self._log.asks.append(_about(mine, item))
        return ids

    async def look_up(self, id_: str, *, replica: str = "api-0") -> dict[str, Any] | None:
        """Where an email stands. Notes a status or a 404; None when there was neither."""
        asked_at = time.time()
        try:
            answer = await self._http.get(f"{self._urls[replica]}/v1/emails/{id_}")
        except httpx.HTTPError:
            return None
        if answer.status_code == 404:
            self._log.lookups.append(Lookup(asked_at, id_, 404, replica=replica, ended_at=time.time()))
        if answer.status_code != 200:
            return None
        found: dict[str, Any] = answer.json()
        status = Status(found["status"])
        rank = rank_of(status, found["attempts"])
        self._log.lookups.append(Lookup(asked_at, id_, 200, status, rank, replica, time.time()))
        return found

    async def held(self, *, replica: str = "api-0") -> list[str]:
        """The newest emails that are HELD; none without an answer."""
        try:
            answer = await self._http.get(f"{self._urls[replica]}/v1/emails", params={"status": "HELD"})
        except httpx.HTTPError:
            return []
        return [email["id"] for email in answer.json()["data"]] if answer.status_code == 200 else []

    async def cancel(self, id_: str, *, replica: str = "api-0") -> int | None:
        """Ask for its withdrawal. Returns the code; None without an answer."""
        return await self._say(ControlKind.CANCEL, "POST", id_, "/cancel", {}, replica)

    async def reschedule(self, id_: str, send_at: datetime, *, replica: str = "api-0") -> int | None:
        """Give it another time. Returns the code; None without an answer."""
        return await self._say(ControlKind.RESCHEDULE, "PATCH", id_, "", {"send_at": send_at.isoformat()}, replica)

    async def close(self) -> None:
        """End its connections."""
        await self._http.aclose()

    async def _post(
        self, path: str, body: dict[str, Any], key: str | None, replica: str
    ) -> tuple[Ask, httpx.Response | None]:
        raw = json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
        begun_at, answer = time.time(), None
        with contextlib.suppress(httpx.HTTPError):
            answer = await self._http.post(f"{self._urls[replica]}{path}", content=raw, headers=headers)
        asked = Ask(
            at=begun_at,
            result=_result_of(answer.status_code if answer is not None else None),
            code=answer.status_code if answer is not None else None,
            ended_at=time.time(),
            key=key,
            body=hashlib.sha256(raw).hexdigest(),
            is_replay=answer is not None and REPLAYED in answer.headers,
            replica=replica,
        )
        return asked, answer

    async def _say(
        self, kind: ControlKind, method: str, id_: str, path: str, body: dict[str, str], replica: str
    ) -> int | None:
        begun_at, code = time.time(), None
        try:
            answer = await self._http.request(method, f"{self._urls[replica]}/v1/emails/{id_}{path}", json=body)
            code = answer.status_code
        except httpx.HTTPError:
            pass
        send_at = seconds_of(body.get("send_at"))
        word = Word(begun_at, time.time(), kind, id_, _result_of(code), code, send_at=send_at, replica=replica)
        self._log.words.append(word)
        return code


def _result_of(code: int | None) -> Result:
    if code is None or code >= 500:
        return Result.INFO
    return Result.OK if code < 300 else Result.FAIL


def _about(ask: Ask, email: dict[str, Any]) -> Ask:
    """The ask with what its own email says."""
    to = email["to"]
    recipient = canonical(to) if isinstance(to, str) and "@" in to else None  # a bad item of a permissive batch
    return replace(
        ask, to=recipient, send_at=seconds_of(email.get("send_at")), expires_at=seconds_of(email.get("expires_at"))
    )
