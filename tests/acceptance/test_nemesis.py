"""Nothing lost, nothing sent twice, no lie, never too fast: while users do what they do, and workers, APIs and Kafka die."""

import os
import time
from pathlib import Path

import pytest

from tests.support.broker import Kafka
from tests.support.nemesis_run import NemesisRun, nemesis_run
from tests.support.processes import Programs

#: The same in every normal run; ``make test-faults`` draws one, and SEED repeats it.
USUAL_SEED = 20_260
SHORT_SECONDS = 60.0


@pytest.mark.timeout(500)
async def test_a_minute_of_faults_loses_nothing_and_sends_nothing_twice(
    programs: Programs, own_kafka: Kafka, tmp_path: Path
) -> None:
    run = await nemesis_run(programs, own_kafka, tmp_path, seconds=SHORT_SECONDS, seed=seed(USUAL_SEED))
    _require_all_kept(run)


@pytest.mark.long
@pytest.mark.timeout(0)
async def test_a_long_time_of_faults_loses_nothing_and_sends_nothing_twice(
    programs: Programs, own_kafka: Kafka, tmp_path: Path
) -> None:
    seconds = float(os.environ.get("DURATION") or 900)
    run = await nemesis_run(programs, own_kafka, tmp_path, seconds=seconds, seed=seed(int(time.time())))
    _require_all_kept(run)


def seed(otherwise: int) -> int:
    """What SEED says."""
    return int(os.environ.get("SEED") or otherwise)


def _require_all_kept(run: NemesisRun) -> None:
    assert run.verdict.holds, f"{run.verdict}"
    assert not run.verdict.figures["unfinished"], f"{run.verdict}"
    assert [audit.exit_code for audit in run.history.audits] == [0], "the audit does not agree with the checker"
    assert set(run.codes.values()) == {0}, run.codes
    assert run.verdict.figures["exposed"], "no email was in flight at any blow: nothing was tried"
