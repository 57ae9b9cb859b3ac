"""How many emails go before one that waits, and when its turn should come.

The worker shares its starts among the lanes by weight: while all wait, of 21 starts 16 are critical, 4 normal, 1 bulk.
An email with k others of its lane in front of it starts when its lane has had k + 1 starts; by then another lane has
had its weighted share of them, or has run empty. Hence the position: k, and for each other lane the smaller of the two.
The time is that of the next turn plus one gap for each email in front, or ``send_at`` when that is later.

Not foreseen: retries to come, pauses by the provider, emails that are asked for later in a more urgent lane, and
recipients that wait for themselves. A test holds the position against the worker's own schedule.
"""

from collections.abc import Mapping

from mailstream.domain.request import Lane

#: Starts of each lane out of 21 while all wait.
WEIGHTS = {Lane.CRITICAL: 16, Lane.NORMAL: 4, Lane.BULK: 1}


def position(lane: Lane, ahead: int, waiting: Mapping[Lane, int]) -> int:
    """How many emails start before the one with ``ahead`` others of its lane in front of it.

    ``waiting``: emails of each lane that are due; those of the own lane do not matter.
    """
    before = ahead
    for other, count in waiting.items():
        if other is lane:
            continue
        # Starts of the other lane whose pass is below ours; at equal passes the more urgent lane goes first.
        starts, rest = divmod(ahead * WEIGHTS[other], WEIGHTS[lane])
        if rest or WEIGHTS[other] > WEIGHTS[lane]:
            starts += 1
        before += min(count, starts)
    return before


def starts_at(before: int, *, now: float, last_start: float | None, interval: float, due: float | None) -> float:
    """When an email with ``before`` others in front of it should start, in seconds since 1970.

    ``interval``: seconds between two starts. A turn may be taken one interval after the last start.
    """
    next_turn = now if last_start is None else max(now, last_start + interval)
    return max(next_turn + before * interval, due or 0.0)
