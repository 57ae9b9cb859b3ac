"""What the checker is worth: programs that lack one part of the protocol each must fail under the nemesis, and be found."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import pytest

from tests.acceptance.test_nemesis import SHORT_SECONDS, USUAL_SEED, seed
from tests.support.broker import Kafka
from tests.support.nemesis_run import NemesisRun, nemesis_run
from tests.support.nursery import REAL, REAL_API
from tests.support.processes import Programs

# of the normal run's time: the checker's planted histories are there all the time
pytestmark = [pytest.mark.long, pytest.mark.timeout(500)]

CLAIMLESS = ("tests.support.claimless_worker", "worker")
DROWSY, INTENT = ("tests.support.drowsy_worker",), ("tests.support.drowsy_worker", "intent")
HASTY = ("tests.support.hasty_worker", "worker")
CREDULOUS = ("tests.support.credulous_worker", "worker")
LOOKUP_API = ("tests.support.lookup_api", "api")
LONGER_SECONDS = 90.0  #: only every other kill meets a call under way

Runs = Callable[..., Awaitable[NemesisRun]]


@pytest.fixture
def under_nemesis(programs: Programs, own_kafka: Kafka, tmp_path: Path) -> Runs:
    """A short run by the usual seed; what else it takes is ``nemesis_run``'s."""
    return partial(nemesis_run, programs, own_kafka, tmp_path, seconds=SHORT_SECONDS, seed=seed(USUAL_SEED))


async def test_without_the_claim_kills_and_pauses_send_mails_twice(under_nemesis: Runs) -> None:
    run = await under_nemesis(seconds=LONGER_SECONDS, program=CLAIMLESS, blows={"pause": 1})
    print(f"{len(run.sent_twice)} of {len(run.history.accepted)} emails were sent twice")
    assert run.sent_twice, f"{run.verdict}"
    assert run.found("I2", "I3") & set(run.sent_twice)


@pytest.mark.parametrize(
    ("program", "is_found"),
    [pytest.param(DROWSY, False, id="the log decides"), pytest.param(INTENT, True, id="the intent is only written")],
)
async def test_a_worker_that_sleeps_before_its_claim_is_kept_from_a_second_call_by_reading_back(
    under_nemesis: Runs, program: Sequence[str], is_found: bool
) -> None:
    run = await under_nemesis(program=program, blows={"doze": 1}, kills=False)
    print(f"{len(run.found('I3'))} emails were sent more often than their callers chose")
    assert bool(run.found("I2", "I3")) is is_found, f"{run.verdict}"


@pytest.mark.parametrize(
    ("program", "is_found"),
    [
        pytest.param(REAL, False, id="what is durable is acknowledged"),
        pytest.param(HASTY, True, id="what was read is committed"),
        pytest.param(CREDULOUS, True, id="what memory knows is acknowledged"),
    ],
)
async def test_emails_whose_status_was_never_written_are_not_lost_with_the_workers(
    under_nemesis: Runs, program: Sequence[str], is_found: bool
) -> None:
    run = await under_nemesis(program=program, blows={"wreck": 1}, kills=False)
    assert bool(run.found("I1")) is is_found, f"{run.verdict}"


@pytest.mark.parametrize(
    ("api_program", "is_found"),
    [pytest.param(REAL_API, False, id="the log decides"), pytest.param(LOOKUP_API, True, id="a look-up decides")],
)
async def test_a_cancel_is_decided_by_the_log_and_not_by_a_look(
    under_nemesis: Runs, api_program: Sequence[str], is_found: bool
) -> None:
    run = await under_nemesis(api_program=api_program, blows={"pause": 1}, acts={"withdrawn": 1}, kills=False)
    cancelled = {word.id for word in run.history.words if word.code == 200}
    sent = cancelled & run.history.accepted.keys()
    print(f"{len(sent)} of {len(cancelled)} cancels were answered 200 and sent")
    assert bool(sent) is is_found
    assert bool(run.found("I4") & sent) is is_found, f"{run.verdict}"
