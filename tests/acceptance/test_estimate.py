"""What a waiting email is told of its turn, against when the provider was called."""

import asyncio
from datetime import datetime

import httpx
import pytest

from mailstream.settings import Settings
from tests.support.mail_system import KEY, MailSystem
from tests.support.processes import Programs

EMAILS, GAP_SECONDS = 20, 2.0


@pytest.mark.long
@pytest.mark.timeout(120)
async def test_estimates_of_waiting_emails_are_within_a_twentieth_of_the_wait(
    programs: Programs, settings: Settings
) -> None:
    system = MailSystem(programs, settings, send_gap=GAP_SECONDS).start()
    assert system.api is not None
    ids = [system.ask() for _ in range(EMAILS)]
    await system.accepted(1, within_seconds=20)  # from now on the API knows when the last call was

    async with httpx.AsyncClient(base_url=system.api.url, headers=KEY) as http:
        await asyncio.sleep(0.5)
        shown = [(await http.get(f"/v1/emails/{id_}")).raise_for_status().json() for id_ in ids]
    asked_at = datetime.now().timestamp()
    waiting = {email["id"]: email for email in shown if email["status"] == "QUEUED"}
    calls = await system.accepted(EMAILS, within_seconds=EMAILS * GAP_SECONDS + 20)

    order = [call["id"] for call in calls if call["id"] in waiting]
    assert len(order) >= EMAILS - 2
    assert [waiting[id_]["position"] for id_ in order] == list(range(len(order)))
    at = {call["id"]: call["at"] for call in calls}
    errors = []
    for id_ in order:
        estimated = datetime.fromisoformat(waiting[id_]["estimated_at"]).timestamp()
        errors.append((at[id_] - asked_at, at[id_] - estimated))
    print([f"{wait:.1f} s: {error * 1000:+.0f} ms" for wait, error in errors])
    for wait, error in errors:
        assert abs(error) <= 0.05 * max(wait, GAP_SECONDS), f"{error:+.3f} s at a wait of {wait:.1f} s"
