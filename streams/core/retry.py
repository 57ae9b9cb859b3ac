"""How long an email waits between two attempts."""

from collections.abc import Sequence


def back_off_seconds(attempt: int, *, delays: Sequence[float], jitter: float) -> float:
    """Seconds from the outcome of ``attempt`` to the earliest claim of the next.

    The last delay repeats; ``jitter`` (0 to 1) adds up to a tenth, so that emails turned away together do not
    come back together. Raises ValueError when attempt < 1, when there are no delays, or for another jitter.
    """
    if attempt < 1:
        raise ValueError("attempts are counted from 1")
    if not delays:
        raise ValueError("without delays there is no next attempt to wait for")
    if not 0 <= jitter <= 1:
        raise ValueError("jitter is a share from 0 to 1")
    return delays[min(attempt, len(delays)) - 1] * (1 + jitter / 10)
