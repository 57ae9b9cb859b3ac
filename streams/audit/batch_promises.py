"""What batches promise: a status for each of their items, each in the partition of its recipient."""

from mailstream.domain import topics
from streams.audit.replay import PartitionLives, Promise
from streams.audit.report import Kind, Report


class Promises:
    """Told of each partition, and judged when all were read. 8 bytes and a little for each email."""

    def __init__(self) -> None:
        self._open: list[Promise] = []
        self._known: set[int] = set()  #: hashes of the ids that have a status, or that a record of their own asks for

    def take(self, found: PartitionLives, passed: int, before: float) -> None:
        """Keep what a partition promises, and whom it knows. A batch from ``passed`` on waits for a worker."""
        self._known.update(
            hash(life.id)
            for life in found.lives.values()
            if life.published is not None or life.asked or life.is_forgotten
        )
        self._open += (each for each in found.promised if each.place.offset < passed and each.place.at < before)

    def judge(self, report: Report) -> None:
        """Every item has a status, or a record of its own: then it is judged by that."""
        for promise in self._open:
            if hash(promise.id) in self._known:
                continue
            self._known.add(hash(promise.id))  # a batch that was asked twice is one promise
            where = f"{topics.REQUESTED.name} {promise.partition}/{promise.place.offset}"
            why = f"was refused whole ({promise.rejected})" if promise.rejected else "was passed by a worker"
            report.add(Kind.LOST, promise.id, f"is named in the batch at {where}, which {why}, and has no status")
