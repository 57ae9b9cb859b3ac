"""A worker that reaches the provider and not Kafka, or hears no answer of Kafka (rows 10 and 11)."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from mailstream.domain import codec, topics
from mailstream.domain.attempt import AttemptRecord, ClaimRecord, OutcomeRecord, ReleasedRecord
from mailstream.settings import Settings
from tests.support.broker import Kafka
from tests.support.eventually import eventually
from tests.support.mail_system import MailSystem, twice
from tests.support.processes import Programs
from tests.support.proxy import Proxy, Way
from tests.support.run_log import all_calls
from tests.support.system import some_settings, topics_of
from tests.support.whole_topic import whole_topic

pytestmark = [pytest.mark.long, pytest.mark.timeout(200)]

#: No call starts later than this after a cut.
LAST_CALL_SECONDS = 5.0
CUT_SECONDS = 14.0
#: A session that outlives every cut here, and one that ends in it.
LONG_SESSION, SHORT_SESSION = 30, 6


@pytest.fixture
def direct(proxied_kafka: Kafka) -> Iterator[Settings]:
    """Topics of this test's own, for those who reach Kafka."""
    mine = some_settings(proxied_kafka.bootstrap, send_gap=0.1)
    with topics_of(mine):
        yield mine


def _silence(proxy: Proxy) -> None:
    proxy.drop(Way.REQUESTS)
    proxy.drop(Way.ANSWERS)


@pytest.mark.parametrize(
    ("cut", "session"),
    [
        pytest.param(Proxy.cut, LONG_SESSION, id="connections are reset, the session goes on"),
        pytest.param(_silence, LONG_SESSION, id="nothing comes through, the session goes on"),
        pytest.param(_silence, SHORT_SESSION, id="nothing comes through, the session ends"),
    ],
)
async def test_a_worker_that_is_cut_off_from_kafka_starts_no_call_and_goes_on_afterwards(
    programs: Programs, direct: Settings, kafka_proxy: Proxy, cut: Callable[[Proxy], None], session: int
) -> None:
    system = MailSystem(programs, direct, session_timeout=session)
    _start_behind(kafka_proxy, system)
    ids = await _publish(system, direct, 150)
    await system.accepted(10, within_seconds=30)

    cut(kafka_proxy)
    cut_at = time.time()
    await asyncio.sleep(CUT_SECONDS)
    mended_at = time.time()
    kafka_proxy.mend()

    calls = [call["at"] for call in all_calls(system.emulator.url)]
    late = [round(at - cut_at, 2) for at in calls if cut_at + LAST_CALL_SECONDS < at < mended_at]
    assert not late, "calls started that long after the cut"
    assert len(calls) < len(ids), "nothing was left to be sent: nothing was tried"
    await eventually(
        lambda: {call["id"] for call in system.ledger()} == set(ids), within_seconds=90, waiting_for="the rest"
    )
    print(
        f"last call {max(at for at in calls if at < mended_at) - cut_at:.2f} s after the cut, "
        f"first one {min(c['at'] for c in system.ledger() if c['at'] > mended_at) - mended_at:.1f} s after its end"
    )
    assert not twice(system.ledger())
    assert system.workers[0].stop() == 0


async def test_a_claim_whose_acknowledgement_is_lost_is_in_the_log_once(
    programs: Programs, direct: Settings, kafka_proxy: Proxy
) -> None:
    system = MailSystem(programs, direct, session_timeout=LONG_SESSION)
    _start_behind(kafka_proxy, system)
    ids = await _publish(system, direct, 60)
    await system.accepted(10, within_seconds=30)

    kafka_proxy.drop(Way.ANSWERS)
    await asyncio.sleep(3)  # shorter than a record may wait: the producer goes on asking
    unheard = {claim.id for claim in _claims(direct)} - {call["id"] for call in all_calls(system.emulator.url)}
    assert unheard, "no claim was written unheard: nothing was tried"
    kafka_proxy.mend()

    await eventually(
        lambda: {call["id"] for call in system.ledger()} == set(ids), within_seconds=60, waiting_for="the rest"
    )
    await eventually(lambda: _answered(direct) == set(ids), waiting_for="every outcome in the log")
    claims = _claims(direct)
    assert _most(claim.nonce for claim in claims) == 1, "one record"
    assert _most(claim.id for claim in claims) == 1, "one nonce"
    assert not twice(system.ledger())
    assert system.workers[0].stop() == 0


async def test_a_claim_that_was_given_up_and_is_in_the_log_is_released_and_the_mail_goes_once(
    programs: Programs, direct: Settings, kafka_proxy: Proxy
) -> None:
    system = MailSystem(programs, direct, session_timeout=SHORT_SESSION)  # a record may wait for a third of it
    _start_behind(kafka_proxy, system)
    ids = await _publish(system, direct, 60)
    await system.accepted(10, within_seconds=30)

    kafka_proxy.drop(Way.ANSWERS)
    await asyncio.sleep(SHORT_SESSION)
    kafka_proxy.mend()

    await eventually(
        lambda: {call["id"] for call in system.ledger()} == set(ids), within_seconds=90, waiting_for="the rest"
    )
    assert not twice(system.ledger())
    assert any(isinstance(record, ReleasedRecord) for record in _attempts(direct)), "nothing was given up"
    assert system.workers[0].stop() == 0


def _start_behind(proxy: Proxy, system: MailSystem) -> None:
    """One worker that reaches Kafka through the proxy only."""
    system.settings = system.settings.model_copy(update={"kafka_bootstrap": f"127.0.0.1:{proxy.port}"})
    system.add_workers(1)


async def _publish(system: MailSystem, direct: Settings, count: int) -> list[str]:
    """As a service that is not cut off."""
    through, system.settings = system.settings, direct
    try:
        return await system.publish(count)
    finally:
        system.settings = through


def _attempts(settings: Settings) -> list[AttemptRecord]:
    return [codec.decode_attempt(message.value() or b"") for message in whole_topic(settings, topics.ATTEMPTS)]


def _claims(settings: Settings) -> list[ClaimRecord]:
    return [record for record in _attempts(settings) if isinstance(record, ClaimRecord)]


def _answered(settings: Settings) -> set[str]:
    return {record.id for record in _attempts(settings) if isinstance(record, OutcomeRecord)}


def _most(names: Iterator[str]) -> int:
    """How often the most frequent one comes."""
    return max(Counter(names).values(), default=0)
