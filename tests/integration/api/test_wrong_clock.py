"""An API whose wall clock is wrong dates and judges by the brokers' clock, and says so."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from mailstream.clock import SystemClock
from mailstream.domain import codec, topics
from mailstream.domain.request import EmailRequest
from mailstream.settings import Settings
from tests.support.api import Api, an_api
from tests.support.eventually import eventually
from tests.support.whole_topic import whole_topic

YEAR = 31_536_000.0


class WrongClock(SystemClock):
    """The machine's clocks, the wall clock off by some seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def now(self) -> float:
        """Wall time as a machine has it that lost its NTP."""
        return time.time() + self._seconds


@pytest.mark.parametrize("seconds", [YEAR, -YEAR])
async def test_what_callers_ask_for_is_dated_by_the_brokers(settings: Settings, seconds: float) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    async with an_api(settings, clock=WrongClock(seconds)) as api:
        await eventually(
            lambda: _says_how_far_it_is_off(api, seconds), within_seconds=10, waiting_for="a clock that was compared"
        )

        answer = await api.ask(send_at=tomorrow.isoformat())

        assert answer.status_code == 202, answer.text  # not in the past, nor more than a year ahead
    [request] = [
        codec.decode_requested(message.value() or b"")
        for message in whole_topic(settings, topics.REQUESTED)
        if message.value()
    ]
    assert isinstance(request, EmailRequest)
    assert request.requested_at is not None
    assert abs(request.requested_at.timestamp() - time.time()) < 60


async def _says_how_far_it_is_off(api: Api, seconds: float) -> bool:
    text = (await api.http.get("/metrics")).text
    [line] = [line for line in text.splitlines() if line.startswith("mailstream_clock_error_seconds ")]
    return abs(float(line.split()[1]) - seconds) < 60
