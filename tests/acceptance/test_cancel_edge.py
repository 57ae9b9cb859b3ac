"""Cancel against claim, thousands of times right at the edge: whoever wins in the log, the answer says what became true."""

import asyncio
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from mailstream.domain import codec, topics
from mailstream.domain.attempt import ReleasedRecord
from mailstream.domain.status import Status
from mailstream.settings import Settings
from tests.support.edge import Edge
from tests.support.eventually import eventually
from tests.support.mail_system import KEY, MailSystem, an_address, twice
from tests.support.processes import Programs
from tests.support.whole_topic import whole_topic

CALLERS, EMAILS_EACH = 40, 80
#: A scheduled email is due that long after it was asked for; the cancel comes about then.
DUE_SECONDS = 0.3


async def _caller(url: str, answers: dict[str, httpx.Response]) -> None:
    """Ask and cancel, one email after the other: some are due at once, the others a moment later."""
    async with httpx.AsyncClient(base_url=url, headers=KEY, timeout=30) as http:
        dice = random.Random()
        scheduled, at_once = Edge(dice), Edge(dice)
        for number in range(EMAILS_EACH):
            edge, seconds = (scheduled, DUE_SECONDS) if number % 4 else (at_once, 0.0)
            await _ask_and_cancel(http, edge, seconds, answers)


async def _ask_and_cancel(
    http: httpx.AsyncClient, edge: Edge, seconds: float, answers: dict[str, httpx.Response]
) -> None:
    due = datetime.now(UTC) + timedelta(seconds=seconds)
    body: dict[str, Any] = {"to": an_address(), "subject": "Hello", "text": "Hello there"}
    asked = await http.post("/v1/emails", json=body | ({"send_at": due.isoformat()} if seconds else {}))
    assert asked.status_code == 202, asked.text
    await asyncio.sleep(max(0.0, (due - datetime.now(UTC)).total_seconds() + edge.draw()))

    id_ = asked.json()["id"]
    answers[id_] = answer = await http.post(f"/v1/emails/{id_}/cancel")
    edge.learn(answer.status_code)


@pytest.mark.long
@pytest.mark.timeout(280)
@pytest.mark.parametrize("gap", [pytest.param(0.0, id="no gap"), pytest.param(0.002, id="claims wait at the gate")])
async def test_a_cancel_at_the_moment_of_the_claim_is_answered_with_what_the_log_decided(
    programs: Programs, settings: Settings, gap: float
) -> None:
    system = MailSystem(programs, settings, send_gap=gap).start()
    system.order(latency_seconds=0.02)
    assert system.api is not None
    answers: dict[str, httpx.Response] = {}

    await asyncio.gather(*(_caller(system.api.url, answers) for _ in range(CALLERS)))

    def ended() -> dict[str, Status]:
        found = _statuses(system.settings)
        last = {id_: shown[-1] for id_, shown in found.items() if shown[-1] in (Status.SENT, Status.CANCELLED)}
        assert answers.keys() <= last.keys(), f"{len(answers.keys() - last.keys())} have not ended"
        return last

    last = await eventually(ended, within_seconds=60, every_seconds=1, waiting_for="the end of all emails")
    shown = _statuses(system.settings)
    calls = system.ledger(refused=True)
    called = {call["id"] for call in calls}
    by_code = {code: {id_ for id_, each in answers.items() if each.status_code == code} for code in (200, 202, 409)}
    counts = Counter(answer.status_code for answer in answers.values())
    print(f"gap {gap}: {dict(counts)}, given back {_given_back(system.settings)}, called {len(called)}")

    assert len(answers) == CALLERS * EMAILS_EACH
    assert sum(map(len, by_code.values())) == len(answers), counts
    assert all(answers[id_].json()["status"] == "CANCELLED" for id_ in by_code[200])
    assert not by_code[200] & called, "cancelled, and called"
    assert all(last[id_] is Status.CANCELLED for id_ in by_code[200])
    assert all(answers[id_].json()["code"] == "already_sending" for id_ in by_code[409])
    assert not {id_ for id_ in by_code[409] if Status.CANCELLED in shown[id_]}, "too late, and shown as cancelled"
    assert by_code[409] <= called
    assert not twice(calls)
    assert called == {id_ for id_, status in last.items() if status is Status.SENT}
    for code in (200, 409):
        assert len(by_code[code]) >= 0.05 * len(answers), f"the edge was missed: {counts}"
    assert len(by_code[202]) <= 0.01 * len(answers), f"a worker runs, so nearly all are decided in time: {counts}"


def _statuses(settings: Settings) -> dict[str, list[Status]]:
    """What was ever shown of each email, in log order."""
    found: dict[str, list[Status]] = {}
    for message in whole_topic(settings, topics.STATUS):
        status = codec.decode_status(message.value() or b"")
        found.setdefault(status.id, []).append(status.status)
    return found


def _given_back(settings: Settings) -> int:
    """Claims that were released for a cancel, or because the worker could not call."""
    records = (codec.decode_attempt(message.value() or b"") for message in whole_topic(settings, topics.ATTEMPTS))
    return sum(isinstance(record, ReleasedRecord) for record in records)
