"""Cancel and reschedule: 200 when the log decided so, 409 when it is too late, 202 when nobody decides in time."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec import structs

from api import controls
from mailstream.domain import codec
from mailstream.domain.request import Control
from mailstream.domain.status import Fact, Status
from mailstream.settings import Settings
from tests.support.api import Requests, Worker, a_status, an_api


async def decided_by(settings: Settings, call: Any, fact: dict[str, Any], **status: Any) -> tuple[Control, Any]:
    """Make the call; when its control record is in the log, decide it as a worker would."""
    async with Requests(settings) as requests:
        answering = asyncio.create_task(call)
        value, offset = await requests.next(lambda value: b'"kind"' in value)
        control = codec.decode_requested(value)
        assert isinstance(control, Control)
        worker, known = Worker(settings), a_status(control.id, **({"control": offset} | status))
        decision = Fact(at=known.created_at, control=offset, by=control.by, **fact)
        await worker.publish(structs.replace(known, timeline=(*known.timeline, decision)))
        await worker.close()
        return control, await answering


async def test_a_cancel_that_the_log_takes_is_a_200(settings: Settings) -> None:
    async with an_api(settings) as api:
        id_ = (await api.ask()).json()["id"]

        control, answer = await decided_by(
            settings,
            api.http.post(f"/v1/emails/{id_}/cancel", json={"reason": "sold out"}),
            {"status": Status.CANCELLED},
            status=Status.CANCELLED,
            attempt=1,
        )

        assert (control.kind, control.by, control.reason, control.tenant) == ("cancel", "dev", "sold out", "dev")
        assert answer.status_code == 200
        assert answer.json()["status"] == "CANCELLED"
        assert (await api.http.post(f"/v1/emails/{id_}/cancel")).status_code == 200


async def test_a_cancel_that_comes_too_late_is_a_409(settings: Settings) -> None:
    async with an_api(settings) as api:
        for number, why in enumerate(("already_sending", "in_doubt", "already_final")):
            id_ = (await api.ask(to=f"user{number}@example.com")).json()["id"]

            _, answer = await decided_by(
                settings,
                api.http.post(f"/v1/emails/{id_}/cancel"),
                {"what": "cancel_refused", "detail": why},
                status=Status.PROCESSING,
                attempt=1,
            )

            assert answer.status_code == 409
            assert answer.json()["code"] == "already_sending"


async def test_a_cancel_behind_a_doubt_is_a_409(settings: Settings) -> None:
    """Amendment 3: the claim stops further calls, the status is UNCONFIRMED."""
    async with an_api(settings) as api:
        id_ = (await api.ask()).json()["id"]

        _, answer = await decided_by(
            settings,
            api.http.post(f"/v1/emails/{id_}/cancel"),
            {"status": Status.UNCONFIRMED},
            status=Status.UNCONFIRMED,
            attempt=2,
        )

        assert answer.status_code == 409


async def test_with_no_worker_a_cancel_is_a_202(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controls, "SECONDS", 0.3)
    async with an_api(settings) as api:
        id_ = (await api.ask()).json()["id"]

        answer = await api.http.post(f"/v1/emails/{id_}/cancel")

        assert answer.status_code == 202
        assert answer.json()["status"] == "QUEUED"


async def test_what_has_ended_is_not_asked_again(settings: Settings) -> None:
    async with an_api(settings) as api:
        worker = Worker(settings)
        id_ = (await api.ask()).json()["id"]
        await worker.publish(a_status(id_, Status.SENT, attempt=1))
        await api.http.get(f"/v1/emails/{id_}?wait=5")

        cancelled = await api.http.post(f"/v1/emails/{id_}/cancel")
        changed = await api.http.patch(f"/v1/emails/{id_}", json={"send_at": "2027-01-01T00:00:00Z"})

        assert (cancelled.status_code, changed.status_code) == (409, 409)
        await worker.close()


async def test_another_time_is_a_200_when_the_log_takes_it(settings: Settings) -> None:
    async with an_api(settings) as api:
        id_ = (await api.ask()).json()["id"]
        due = datetime(2027, 1, 1, tzinfo=UTC)

        control, answer = await decided_by(
            settings,
            api.http.patch(f"/v1/emails/{id_}", json={"send_at": due.isoformat()}),
            {"status": Status.QUEUED},
            status=Status.QUEUED,
            attempt=1,
            due_at=due,
        )

        assert (control.kind, control.send_at) == ("reschedule", due)
        assert answer.status_code == 200
        assert answer.json()["send_at"] == "2027-01-01T00:00:00Z"


async def test_wrong_changes_are_refused(settings: Settings) -> None:
    async with an_api(settings) as api:
        id_ = (await api.ask()).json()["id"]
        for body in ({}, {"send_at": "soon"}, {"send_at": "2026-12-01T09:00:00"}, {"send_at": "2036-01-01T00:00:00Z"},
                     {"send_at": None}, {"lane": "bulk"}):  # fmt: skip
            assert (await api.http.patch(f"/v1/emails/{id_}", json=body)).status_code == 422, body
        assert (
            await api.http.patch("/v1/emails/em_00000000_a", json={"send_at": "2027-01-01T00:00:00Z"})
        ).status_code == 404
