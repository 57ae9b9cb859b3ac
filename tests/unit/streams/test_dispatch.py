"""Who is called when."""

import pytest

from mailstream.status import Status
from tests.support.memory_worker import MemoryWorker, passed

pytestmark = pytest.mark.asyncio(loop_factories=["instant"])


async def test_an_email_that_is_asked_for_is_called_once_and_shown_as_sent(worker: MemoryWorker) -> None:
    email = worker.ask()

    await passed()

    assert worker.provider.called() == [email]
    shown = worker.shown(email)
    assert shown is not None
    assert shown.status is Status.SENT
