"""Which body each batch was asked for with under its Idempotency-Key, for as long as an email of it is known."""

from api.view.brief import Seen
from mailstream.domain.request import InBatch


class Batches:
    """Follows every email; a batch goes with the last of its emails."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, int]] = {}  #: batch id: fingerprint, and how many of its emails are known

    def __len__(self) -> int:
        return len(self._known)

    def fingerprint(self, batch_id: str) -> str | None:
        """Of the body that the batch was asked for with; None when no email of it is known."""
        known = self._known.get(batch_id)
        return None if known is None else known[0]

    def changed(self, key: bytes, before: Seen | None, after: Seen | None) -> None:
        """Count an email in or out."""
        left, come = before.batch if before else None, after.batch if after else None
        if left == come:
            return
        if come is not None:
            fingerprint, count = self._known.get(come.id, (come.fingerprint, 0))
            self._known[come.id] = fingerprint, count + 1
        if left is not None:
            self._leave(left)

    def _leave(self, batch: InBatch) -> None:
        fingerprint, count = self._known.get(batch.id, ("", 0))
        if count > 1:
            self._known[batch.id] = fingerprint, count - 1
        else:
            self._known.pop(batch.id, None)
