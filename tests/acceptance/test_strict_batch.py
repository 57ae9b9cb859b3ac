"""A strict batch is one fact for its callers: cancelled, asked again, refused half way, and asked for by an operator."""

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from cli.verbs import app
from mailstream.domain import topics
from mailstream.settings import Settings
from tests.support.armed_worker import armed
from tests.support.eventually import eventually
from tests.support.mail_system import KEY, MailSystem, an_address, twice
from tests.support.nursery import Nursery
from tests.support.processes import Programs
from tests.support.system import as_environment
from tests.support.whole_topic import whole_topic

SENDER, OTHER = "sender@example.com", "other@example.com"


def in_seconds(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def items(count: int, **members: Any) -> list[dict[str, Any]]:
    return [{"to": an_address(), "subject": "Hello", "text": "Hello there", **members} for _ in range(count)]


class Caller:
    """Asks the API of a system."""

    def __init__(self, system: MailSystem) -> None:
        assert system.api is not None
        self._url = system.api.url

    def ask(self, method: str, path: str, key: str | None = None, **more: Any) -> httpx.Response:
        headers = KEY | ({"Idempotency-Key": key} if key else {})
        return httpx.request(method, self._url + path, headers=headers, timeout=30, **more)

    def batch(self, asked: list[dict[str, Any]], mode: str = "strict", key: str | None = None) -> httpx.Response:
        return self.ask("POST", "/v1/emails/batch", key, json={"mode": mode, "items": asked})

    def accepted(self, asked: list[dict[str, Any]]) -> list[str]:
        """The ids of a batch."""
        answer = self.batch(asked)
        assert answer.status_code == 202, answer.text
        return [each["id"] for each in answer.json()["results"]]

    def cancel(self, id_: str) -> int:
        return self.ask("POST", f"/v1/emails/{id_}/cancel").status_code

    def status(self, id_: str) -> Any:
        return self.statuses([id_])[0]

    def statuses(self, ids: list[str]) -> list[Any]:
        """On one connection: hundreds of look-ups must not last longer than what they look for."""
        with httpx.Client(base_url=self._url, headers=KEY, timeout=30) as http:
            return [http.get(f"/v1/emails/{id_}").json().get("status") for id_ in ids]


@pytest.fixture
def system(programs: Programs, settings: Settings) -> MailSystem:
    """No worker yet."""
    found = MailSystem(programs, settings.model_copy(update={"send_gap": 0, "session_timeout": 6.0}))
    found.api = programs.api(found.settings)
    found.api.ready()
    return found


def reasons(settings: Settings) -> Counter[str]:
    """Of all dead letters."""
    return Counter(
        dict(m.headers() or ())["mailstream-reason"].decode() for m in whole_topic(settings, topics.REJECTED)
    )  # type: ignore[union-attr]


async def test_words_about_items_that_stand_before_any_worker_runs_are_obeyed(system: MailSystem) -> None:
    caller = Caller(system)
    cancelled = caller.accepted(items(3))
    [put_off, sent] = caller.accepted(items(2))
    mail = {
        "personalizations": [{"to": [{"email": an_address()}, {"email": an_address()}]}, {"to": [{"email": an_address()}]}],
        "from": {"email": SENDER}, "subject": "Hi", "content": [{"type": "text/plain", "value": "Hi"}], "batch_id": "b1",
    }  # fmt: skip
    assert caller.ask("POST", "/v3/mail/send", json=mail).status_code == 202
    listed = caller.ask("GET", "/v1/emails", params={"reference": "batch_id:b1"}).json()["data"]
    behind_v3 = [each["id"] for each in listed]
    assert len(behind_v3) == 3

    assert [caller.cancel(id_) for id_ in cancelled] == [202] * 3
    at = in_seconds(3600).isoformat()
    assert caller.ask("PATCH", f"/v1/emails/{put_off}", json={"send_at": at}).status_code == 202
    ended = caller.ask("POST", "/v3/user/scheduled_sends", json={"batch_id": "b1", "status": "cancel"})
    assert ended.status_code == 201
    system.add_workers(1)

    await system.all_have([*cancelled, *behind_v3], "CANCELLED", within_seconds=30)
    await system.all_have([sent], "SENT", within_seconds=20)
    shown = system.status(put_off)
    assert (shown["status"], shown["send_at"][:19]) == ("QUEUED", at[:19])
    assert [call["id"] for call in system.ledger(refused=True)] == [sent]
    assert reasons(system.settings) == {}


async def test_the_last_item_of_a_batch_is_cancelled_at_once_while_a_worker_unfolds_it(system: MailSystem) -> None:
    system.add_workers(1)
    caller = Caller(system)
    ids = caller.accepted(items(600, send_at=in_seconds(15).isoformat()))

    assert {caller.cancel(id_) for id_ in ids[-3:]} <= {200, 202}

    await system.all_have(ids[-3:], "CANCELLED", within_seconds=30)
    calls = await system.accepted(597, within_seconds=60)
    assert {call["id"] for call in calls} == set(ids[:-3])
    assert reasons(system.settings) == {}


@pytest.mark.long  # of the normal run's time; the parts of it are in tests/integration/api and tests/unit
async def test_another_body_under_the_key_is_refused_after_all_was_sent_and_all_was_restarted(
    system: MailSystem, programs: Programs
) -> None:
    [worker] = system.add_workers(1)
    asked = {mode: items(2) for mode in ("strict", "permissive")}
    caller = Caller(system)
    first = {mode: caller.batch(asked[mode], mode, f"k-{mode}").json() for mode in asked}
    await system.accepted(4, within_seconds=20)
    await system.all_have([each["id"] for each in first["strict"]["results"]], "SENT", within_seconds=20)
    worker.stop()
    assert system.api is not None
    system.api.stop()
    system.api = programs.api(system.settings)
    system.api.ready()
    system.add_workers(1)

    caller = Caller(system)
    for mode, body in asked.items():
        other = "permissive" if mode == "strict" else "strict"
        for asked_then, mode_then in (
            ([*body, *items(1)], mode), (body[:1], mode), (body[::-1], mode), (body, other),
            ([body[0] | {"text": "TWO"}, body[1]], mode), ([each | {"text": "TWO"} for each in [*body, *items(1)]], mode),
        ):  # fmt: skip
            assert caller.batch(asked_then, mode_then, f"k-{mode}").status_code == 422
        again = caller.batch(body, mode, f"k-{mode}")
        assert (again.status_code, again.headers.get("Idempotent-Replayed")) == (202, "true")
        assert again.json() == first[mode]

    await asyncio.sleep(2)
    assert len(system.ledger(refused=True)) == 4
    assert reasons(system.settings) == {}


@pytest.mark.long  # of the normal run's time; the parts of it are in tests/integration/api and tests/unit
@pytest.mark.timeout(240)
async def test_a_batch_that_is_refused_half_way_is_told_to_its_caller_and_can_be_asked_for_again(
    system: MailSystem, tmp_path: Path
) -> None:
    """The worker that began knew the sender; the one that goes on does not; an operator mends that and asks again."""
    both = system.settings.model_copy(update={"senders_allowed": (SENDER, OTHER)})
    assert system.api is not None
    system.api.stop()
    system.settings = both
    system.api = system.programs.api(both)
    system.api.ready()
    caller = Caller(system)
    ids = caller.accepted(items(600, **{"from": OTHER, "send_at": in_seconds(20).isoformat()}))
    with Nursery(tmp_path) as nursery:
        first = nursery.worker(both, armed("C0", ids[150]))
        await eventually(lambda: not first.is_running(), within_seconds=60, waiting_for="a death half way")
        unfolded = len(list(whole_topic(both, topics.REQUESTED))) - 1
        assert 150 < unfolded < 600
        nursery.worker(both.model_copy(update={"senders_allowed": (SENDER,)}), name="strict")
        statuses = await eventually(lambda: settled(caller, ids), within_seconds=60, waiting_for="an end of each")
        assert set(statuses) == {"SENT", "REJECTED"}, "what was taken before is untouched, the others know why"
        listed = caller.ask("GET", "/v1/emails", params={"status": "REJECTED", "limit": 1}).json()["data"]
        assert listed[0]["provider"]["reason"] == "SENDER_NOT_ALLOWED"
        assert reasons(both) == {"SENDER_NOT_ALLOWED": statuses["REJECTED"]}
        nursery.children[-1].kill()

        nursery.worker(both, name="mended")
        for _ in range(2):
            await asyncio.to_thread(retry, both)
        calls = await system.accepted(600, within_seconds=60)
        await asyncio.sleep(2)
        calls = system.ledger(refused=True)

    assert len(calls) == 600
    assert twice(calls) == set()


def settled(caller: Caller, ids: list[str]) -> Counter[str]:
    found = Counter(map(str, caller.statuses(ids)))
    assert not {"QUEUED", "PROCESSING", "None"} & set(found), found
    return found


def retry(settings: Settings) -> None:
    """As an operator asks again for all dead letters."""
    asked = ["dead-letters", "retry", "--reason", "SENDER_NOT_ALLOWED", "--why", "mended", "--yes", "--json"]
    ran = CliRunner().invoke(app, asked, env=as_environment(settings))
    assert ran.exit_code == 0, ran.output[-500:]
    assert all(row["no_use"] is None for row in json.loads(ran.stdout))
