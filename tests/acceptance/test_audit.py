"""What real processes did, proven by the audit and by the history checker, with everything stopped."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mailstream.settings import Settings
from tests.support.collected import collected
from tests.support.eventually import eventually
from tests.support.history_logs import Audit, Fault, FaultKind
from tests.support.mail_system import MailSystem
from tests.support.processes import Programs
from tests.support.system import as_environment
from tests.support.verdict import judge


@pytest.mark.timeout(180)
async def test_a_run_with_a_killed_worker_is_proven_from_the_topics_alone(
    programs: Programs, settings: Settings, tmp_path: Path
) -> None:
    system = MailSystem(programs, settings, send_gap=0.1, session_timeout=6).start(workers=2)
    ids = await system.publish(60)
    await system.accepted(10, within_seconds=20)
    victim, survivor = system.workers
    victim.kill()
    faults = [Fault(time.time(), FaultKind.KILL, victim.name)]

    def settled() -> bool:
        shown = [system.status(id_)["status"] for id_ in ids]
        return all(status in ("SENT", "HELD") for status in shown)

    await eventually(
        settled, within_seconds=60, waiting_for="60 emails SENT, or HELD where the killed worker was calling"
    )
    survivor.stop()
    begun = time.time()
    command = [sys.executable, "-m", "cli.main", "audit", "verify", "--settle", "0", "--json"]
    done = subprocess.run(
        command, env=as_environment(system.settings), cwd=tmp_path, capture_output=True, text=True, check=False
    )

    report = json.loads(done.stdout)
    assert done.returncode == 0, report["findings"]
    audit = Audit(begun, time.time(), done.returncode)
    verdict = judge(collected(system.settings, system.ledger(refused=True), faults=faults, audits=[audit]))
    print(verdict)
    assert verdict.holds, str(verdict)
    assert report["emails"] == len(ids)
