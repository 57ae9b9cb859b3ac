"""Records of one recipient in log order, though one of them may need time: only what stands behind it waits."""

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from mailstream.domain.email_id import hash_in
from streams.core.faults import Rejected
from streams.core.intake import Controlled, ParsedRequest, Ruling

#: What needs time, and then gives what is left to do. It may be dropped in between.
Rest = Coroutine[Any, Any, Callable[[], None]]
Step = Callable[[], Rest | None]


class RecipientLines:
    """Runs steps at once, or behind an unfinished one of the same recipient."""

    def __init__(self, spawn: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        self._spawn = spawn
        self._behind: dict[int, deque[Step]] = {}  #: by recipient's hash, what waits for an unfinished step

    def put(self, recipient: int | None, step: Step) -> None:
        """Run a step in its turn. ``recipient`` is None for a step that is about no single one."""
        if self._behind and recipient is not None and (behind := self._behind.get(recipient)) is not None:
            behind.append(step)
        elif (rest := step()) is not None:
            assert recipient is not None
            behind = self._behind[recipient] = deque()
            self._spawn(self._run(recipient, rest, behind))

    def drop(self) -> None:
        """Forget all that is unfinished: partitions are revoked, and what is not acked is read again."""
        self._behind.clear()

    async def _run(self, recipient: int, rest: Rest | None, behind: deque[Step]) -> None:
        while rest is not None:
            finish = await rest
            if self._behind.get(recipient) is not behind:
                return  # dropped meanwhile
            finish()
            rest = None
            while behind and rest is None:
                rest = behind.popleft()()
        del self._behind[recipient]


def recipient_of(ruling: Ruling) -> int | None:
    """Hash of the recipient of the email that a record is about; None: it is about no single one."""
    match ruling:
        case ParsedRequest():
            return ruling.recipient
        case Controlled():
            return hash_in(ruling.control.id)
        case Rejected(id=str(named)):
            return hash_in(named)
    return None
