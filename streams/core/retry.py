"""How long an email waits between two attempts."""

from collections.abc import Sequence


def back_off_seconds(used: int, *, delays: Sequence[float], jitter: float) -> float | None:
    """Seconds from an outcome to the earliest claim of the next attempt, after so many retries; None: all are used.

    ``jitter`` (0 to 1) adds up to a tenth, so that emails turned away together do not come back together.
    """
    return delays[used] * (1 + jitter / 10) if used < len(delays) else None
