"""Whether and when an email is tried again after an attempt, who pays for it, and how long all calls pause."""

from collections.abc import Sequence
from typing import NamedTuple

from mailstream.domain.attempt import Outcome
from mailstream.domain.status import EmailStatus, Status
from streams.core.provider_answer import ProviderAnswer, Responded, pause_seconds


class Retry(NamedTuple):
    """What follows from an outcome."""

    at: float | None = None  #: seconds since 1970; None: there is no further attempt
    counts: bool = False  #: the attempt is paid from the email's budget of retries
    pause_seconds: float | None = None  #: for all calls, because the provider says that there are too many


def retry_after(
    outcome: Outcome,
    answer: ProviderAnswer,
    *,
    now: float,
    used: int,
    delays: Sequence[float],
    earlier: int,
    jitter: float,
) -> Retry:
    """Decide at ``now`` (seconds since 1970), after ``used`` paid retries and so many ``earlier`` 429 in a row."""
    if isinstance(answer, Responded) and answer.http_status == 429:
        pause = pause_seconds(answer, now, earlier=earlier, jitter=jitter)
        return Retry(now + pause, pause_seconds=pause)
    if outcome is Outcome.ACCOUNT_FAULT:
        return Retry(now)
    if outcome is not Outcome.NOT_ACCEPTED:
        return Retry()
    wait = back_off_seconds(used, delays=delays, jitter=jitter)
    return Retry(None if wait is None else now + wait, counts=True)


def back_off_seconds(used: int, *, delays: Sequence[float], jitter: float) -> float | None:
    """Seconds from an outcome to the earliest claim of the next attempt, after so many retries; None: all are used.

    ``jitter`` (0 to 1) adds up to a tenth, so that emails turned away together do not come back together.
    """
    return delays[used] * (1 + jitter / 10) if used < len(delays) else None


def exhausted(status: EmailStatus) -> str | None:
    """Why an email whose last attempt was not accepted gets no further one. None: it gets one."""
    if status.status is not Status.RETRYING or status.due_at is not None:
        return None
    reason = status.provider.reason if status.provider else None
    return f"retries_exhausted: {reason}" if reason else "retries_exhausted"
