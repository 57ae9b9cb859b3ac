"""What the nemesis did, as stretches of time, and whom it hit. An excuse is one of these, never a mere number."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf

from tests.checker.said import SOCKET_SECONDS
from tests.support.history_logs import Fault, FaultKind

#: What begins a blow, and what ends it. The others are over at once.
_ENDS = {
    FaultKind.PAUSE: (FaultKind.RESUME, FaultKind.KILL),
    FaultKind.CUT: (FaultKind.MEND,),
    FaultKind.BROKER_DOWN: (FaultKind.BROKER_UP,),
    FaultKind.TOPIC_REFUSES: (FaultKind.TOPIC_TAKES,),
    FaultKind.ALL_DOWN: (FaultKind.ALL_UP,),
}
_ENDINGS = {kind for kinds in _ENDS.values() for kind in kinds} - {FaultKind.KILL}
#: After these a worker may not know, or be unable to say, what came of its call.
HARMS = frozenset(
    {
        FaultKind.KILL,
        FaultKind.PAUSE,
        FaultKind.CUT,
        FaultKind.EXIT,
        FaultKind.BROKER_DOWN,
        FaultKind.TOPIC_REFUSES,
        FaultKind.ALL_DOWN,
    }
)
#: What a worker must be able to write; while another topic refuses, it goes on.
_NEEDED = frozenset({"email.attempts", "email.status"})


@dataclass(frozen=True, slots=True)
class Blow:
    """One fault from its beginning to its end, in seconds since 1970."""

    kind: FaultKind
    target: str
    begins: float
    ends: float
    code: int | None = None

    @property
    def stops_all(self) -> bool:
        """Whether nothing can be claimed while it lasts, by any worker."""
        if self.kind is FaultKind.TOPIC_REFUSES:
            return self.target in _NEEDED
        return self.kind in (FaultKind.BROKER_DOWN, FaultKind.ALL_DOWN)

    def hits(self, writer: str) -> bool:
        """Whether it is this worker's (a worker id, or one with its boot behind it), or all workers'."""
        return self.stops_all or writer == self.target or writer.startswith(f"{self.target}/")

    def overlaps(self, begin: float, end: float) -> bool:
        """Whether some of it lies between these two moments."""
        return self.begins <= end and self.ends >= begin


def blows_in(faults: Iterable[Fault]) -> list[Blow]:
    """All blows, in order of their beginning. One without an end lasts for ever."""
    found: list[Blow] = []
    in_order = sorted(faults, key=lambda fault: fault.at)
    for n, fault in enumerate(in_order):
        if fault.kind in _ENDINGS:
            continue
        end = fault.at
        if fault.kind in _ENDS:
            later = (f.at for f in in_order[n + 1 :] if f.kind in _ENDS[fault.kind] and _same(f, fault))
            end = next(later, inf)
        found.append(Blow(fault.kind, fault.target, fault.at, end, fault.code))
    return found


def _same(later: Fault, fault: Fault) -> bool:
    """One end may name several brokers."""
    return fault.target in later.target.split(" and ") or later.target == fault.target


def hitting(blows: Iterable[Blow], writer: str, begin: float, end: float) -> Iterator[Blow]:
    """The blows after which this worker may not know what it did between these two moments."""
    return (b for b in blows if b.kind in HARMS and b.overlaps(begin, end) and b.hits(writer))


def seconds_without(blows: Iterable[Blow], begin: float, end: float) -> float:
    """How long of this stretch nothing could be claimed at all."""
    total, reached = 0.0, begin
    for blow in sorted((b for b in blows if b.stops_all), key=lambda b: b.begins):
        first, last = max(blow.begins, reached), min(blow.ends, end)
        if last > first:
            total += last - first
            reached = last
    return total


def all_paused(blows: Iterable[Blow], signs: Mapping[str, Sequence[float]]) -> list[Blow]:
    """Stretches in which every worker was paused or dead, and one of them paused: as if all were down.

    ``signs``: each worker to the times of its records, in order; who was killed lives again at the next one.
    """
    mine = [blow for blow in blows if blow.target in signs]
    paused = [(b.target, b.begins, b.ends) for b in mine if b.kind is FaultKind.PAUSE]
    dead = [
        (b.target, b.begins, next((at for at in signs[b.target] if at > b.begins + SOCKET_SECONDS), inf))
        for b in mine
        if paused and b.kind in (FaultKind.KILL, FaultKind.STOP, FaultKind.EXIT)
    ]
    edges = sorted({edge for _, begins, ends in (*paused, *dead) for edge in (begins, ends)})
    found = []
    for begins, ends in pairwise(edges):
        out = {target for target, first, last in (*paused, *dead) if first <= begins and last >= ends}
        if out >= signs.keys() and any(first <= begins and last >= ends for _, first, last in paused):
            found.append(Blow(FaultKind.ALL_DOWN, "workers", begins, ends))
    return found
