"""A 202 can be read at once, on every replica, even when no worker runs; nonsense is a 404."""

import httpx

from mailstream.settings import Settings
from tests.support.mail_system import KEY, MailSystem
from tests.support.processes import Programs


async def test_an_accepted_email_is_queued_on_a_replica_that_started_later_while_no_worker_runs(
    programs: Programs, settings: Settings
) -> None:
    system = MailSystem(programs, settings)
    system.api = programs.api(system.settings).ready()
    ids = [system.ask() for _ in range(20)]

    system.api = programs.api(system.settings).ready()

    assert [system.status(id_)["status"] for id_ in ids] == ["QUEUED"] * 20
    for nonsense in ("em_00000000_nothing", "em_xyz", "%00", "em_7fffffff_" + "0" * 64, "../../etc/passwd"):
        assert httpx.get(f"{system.api.url}/v1/emails/{nonsense}", headers=KEY).status_code == 404


async def test_statuses_are_served_by_a_new_replica_when_every_worker_is_down(
    programs: Programs, settings: Settings
) -> None:
    system = MailSystem(programs, settings, send_gap=0).start()
    ids = [system.ask() for _ in range(10)]
    await system.all_have(ids, "SENT", within_seconds=20)
    system.workers[0].stop()

    system.api = programs.api(system.settings).ready()

    shown = [system.status(id_) for id_ in ids]
    assert [email["status"] for email in shown] == ["SENT"] * 10
    assert [fact["status"] for fact in shown[0]["timeline"]] == ["QUEUED", "PROCESSING", "SENT"]
