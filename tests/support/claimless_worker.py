"""A worker that calls first and claims afterwards: ``python -m tests.support.claimless_worker``.

It is the real worker but for the claim protocol, as people build it who trust their consumer group to let only one
worker have an email. The history checker must find out what that costs; else the checker proves nothing.
"""

import itertools
from typing import Any

from msgspec import structs

from cli.main import main
from mailstream.domain.attempt import OutcomeRecord
from mailstream.domain.status import EmailStatus
from streams.sending.attempt import Sending
from streams.statuses.claim_log import ClaimLog, Won

claim, outcome, release = ClaimLog.claim, ClaimLog.outcome, ClaimLog.release
unclaimed: dict[str, tuple[EmailStatus, int, dict[str, Any]]] = {}
numbers = itertools.count()


async def win_at_once(self: ClaimLog, status: EmailStatus, partition: int, **more: Any) -> Won | None:
    """Every call is allowed; endings are claimed as ever."""
    if more.get("instead") is not None:
        return await claim(self, status, partition, **more)
    won = Won(status.id, status.attempt + 1, f"unclaimed-{next(numbers)}", partition)
    unclaimed[won.nonce] = status, partition, more
    return won


async def claim_then_tell(self: ClaimLog, record: OutcomeRecord, partition: int) -> None:
    """The log hears of the call when it is over."""
    status, home, more = unclaimed.pop(record.nonce)
    won = await claim(self, status, home, **more)
    if won is not None:
        await outcome(self, structs.replace(record, nonce=won.nonce, attempt=won.attempt), partition)


async def forget(self: ClaimLog, won: Won, reason: str) -> None:
    """What was not claimed need not be given back."""
    if unclaimed.pop(won.nonce, None) is None:
        await release(self, won, reason)


def stands(self: Sending, won: Won) -> bool:
    """The call is meant, whatever the log says: it has no claim yet."""
    return True


if __name__ == "__main__":
    Sending._stands = stands  # type: ignore[method-assign]
    ClaimLog.claim, ClaimLog.outcome, ClaimLog.release = win_at_once, claim_then_tell, forget  # type: ignore[method-assign]
    main()
