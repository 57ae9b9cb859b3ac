"""When calls started: are they the gap apart?"""

from array import array
from collections.abc import Iterator
from itertools import pairwise

from mailstream.domain import topics
from mailstream.domain.attempt import OutcomeRecord
from streams.audit.email_history import EmailHistory
from streams.audit.report import Kind, Report

#: By which the clocks of two workers may differ, and what a datetime cannot say.
CLOCK_ERROR_SECONDS, ROUNDING_SECONDS = 0.005, 2e-6
#: Below this gap workers keep the rate, not each distance.
RATE_ONLY_SECONDS = 0.1


class Starts:
    """When each recorded call started: 24 bytes a call, so that millions fit."""

    def __init__(self) -> None:
        self._at, self._worker = array("d"), array("I")
        self._partition, self._offset = array("I"), array("Q")
        self._workers: dict[str, int] = {}

    def take(self, life: EmailHistory, partition: int) -> None:
        """Keep the starts of an email's calls, each once: an outcome that was not acknowledged is appended again."""
        seen = set()
        for place, record in life.attempts:
            if isinstance(record, OutcomeRecord) and record.started_at is not None and record.nonce not in seen:
                seen.add(record.nonce)
                self._at.append(record.started_at.timestamp())
                self._worker.append(self._workers.setdefault(record.worker, len(self._workers)))
                self._partition.append(partition)
                self._offset.append(place.offset)

    def judge(self, report: Report, gap: float, burst: int) -> None:
        """Are they a gap apart; or, where only the rate is kept, few enough in any stretch of time."""
        order = sorted(range(len(self._at)), key=self._at.__getitem__)
        distances = [self._at[b] - self._at[a] for a, b in pairwise(order)]
        report.smallest_gap = min(distances, default=None)
        if burst > 1 or gap < RATE_ONLY_SECONDS:
            for what in self._too_many(order, gap, burst):
                report.add(Kind.GAP, "rate", what)
            return
        for (a, b), distance in zip(pairwise(order), distances, strict=True):
            allowed = gap - (ROUNDING_SECONDS if self._worker[a] == self._worker[b] else CLOCK_ERROR_SECONDS)
            if distance < allowed:
                report.add(Kind.GAP, self._where(b), f"started {distance:.6f} s after {self._where(a)}")

    def _too_many(self, order: list[int], gap: float, burst: int) -> Iterator[str]:
        for length in (10 + burst, 100 + burst, 1000 + burst):
            for first, last in zip(order, order[length:], strict=False):
                seconds = self._at[last] - self._at[first]
                if seconds < (length - burst) * gap - CLOCK_ERROR_SECONDS:
                    yield f"{length + 1} calls in {seconds:.3f} s up to {self._where(last)}"
                    break

    def _where(self, index: int) -> str:
        return f"{topics.ATTEMPTS.name} {self._partition[index]}/{self._offset[index]}"
