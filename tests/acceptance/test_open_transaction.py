"""Another producer's open transaction: a worker starts behind it, and takes what stands there when it has ended."""

import asyncio

from mailstream.domain.topics import REQUESTED, STATUS
from mailstream.settings import Settings
from tests.support.mail_system import MailSystem
from tests.support.open_transaction import open_transaction
from tests.support.processes import Programs


async def test_a_worker_loads_behind_an_open_transaction_and_calls_when_it_has_ended(
    programs: Programs, settings: Settings
) -> None:
    system = MailSystem(programs, settings.model_copy(update={"send_gap": 0}))
    system.api = programs.api(system.settings)
    system.api.ready()
    with open_transaction(settings, REQUESTED, STATUS):
        system.add_workers(1)
        id_ = system.ask()
        await asyncio.sleep(2)
        assert system.ledger(refused=True) == [], "its record cannot be read yet"

    calls = await system.accepted(1, within_seconds=20)
    await system.all_have([id_], "SENT", within_seconds=10)

    assert [call["id"] for call in calls] == [id_]
