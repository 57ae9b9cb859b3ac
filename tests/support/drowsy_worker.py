"""A worker that sleeps right before it writes a claim: ``python -m tests.support.drowsy_worker [intent]``.

It is the real worker, but when it has slept it passes its gate, which mostly keeps out who was away: so the log alone
decides. With ``intent`` it writes its claim and calls, without reading back who won, as people build it who write down
what they are about to do. The two differ in that one point; the history checker must find out what it costs.
"""

import itertools
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from cli.main import main
from mailstream.domain.attempt import AttemptRecord, ClaimRecord
from mailstream.domain.status import EmailStatus
from streams.core.pace import Now
from streams.sending.gate import Gate, read_clocks
from streams.statuses.claim_log import ClaimLog, Won

#: Claims for a call between two sleeps.
AWAKE = 40
RUSH_SECONDS = 0.5

claim, append, passed = ClaimLog.claim, ClaimLog._append, Gate.passed
numbers = itertools.count(1)
woke_at = 0.0


async def claim_after_a_sleep(self: ClaimLog, status: EmailStatus, partition: int, **more: Any) -> Won | None:
    """Stop this process, now and then; then claim as ever."""
    global woke_at
    if more.get("instead") is None and next(numbers) % AWAKE == 0:
        os.kill(os.getpid(), signal.SIGSTOP)
        woke_at = time.monotonic()
    return await claim(self, status, partition, **more)


async def win_when_written(self: ClaimLog, record: AttemptRecord, partition: int, **more: Any) -> None:
    """A claim for a call has won as soon as the broker has it; endings are decided by the log as ever."""
    await append(self, record, partition, **more)
    if isinstance(record, ClaimRecord) and record.instead is None:
        self.read_back(record.nonce, has_won=True)


async def pass_when_slept(self: Gate, is_recalled: Callable[[], bool]) -> Now | None:
    """Ask neither for the membership nor for a turn, right after a sleep."""
    return read_clocks() if time.monotonic() - woke_at < RUSH_SECONDS else await passed(self, is_recalled)


if __name__ == "__main__":
    ClaimLog.claim, Gate.passed = claim_after_a_sleep, pass_when_slept  # type: ignore[method-assign]
    if "intent" in sys.argv:
        ClaimLog._append = win_when_written  # type: ignore[method-assign]
    sys.argv[1:] = ["worker"]
    main()
