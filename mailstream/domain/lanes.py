"""The weighted share of the lanes: critical overtakes, bulk never starves."""

from collections.abc import Collection

from mailstream.domain.estimate import WEIGHTS
from mailstream.domain.request import Lane


class Lanes:
    """Stride scheduling: each lane has a pass that grows by 1/weight with each start; the lowest pass goes next.

    A lane that was empty joins at the pass of the others, so it can neither save up turns nor wait for old ones.
    """

    def __init__(self) -> None:
        self._passes = dict.fromkeys(Lane, 0.0)
        self._floor = 0.0

    def choose(self, waiting: Collection[Lane]) -> Lane:
        """The lane of the next start among those that have an email; ties go to the more urgent one."""
        return min(waiting, key=lambda lane: (max(self._passes[lane], self._floor), -WEIGHTS[lane]))

    def started(self, lane: Lane) -> None:
        """Count a start for the lane."""
        now = max(self._passes[lane], self._floor)
        self._floor = now
        self._passes[lane] = now + 1 / WEIGHTS[lane]
