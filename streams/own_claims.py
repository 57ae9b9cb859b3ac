"""The claims of this process that were appended and not read back yet: who waits for which verdict."""

import asyncio
from collections.abc import Set

from mailstream.errors import PartitionLost


class OwnClaims:
    """The claim log waits for a verdict; the projection tells it when the log brings the claim."""

    def __init__(self) -> None:
        self._verdicts: dict[str, tuple[int, asyncio.Future[bool]]] = {}  #: by nonce

    def expect(self, nonce: str, partition: int) -> "asyncio.Future[bool]":
        """A future for the verdict on a claim that is about to be appended: has it won?

        It raises PartitionLost when the partition goes before the claim was read back.
        """
        verdict: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._verdicts[nonce] = partition, verdict
        return verdict

    def read_back(self, nonce: str, *, has_won: bool) -> None:
        """The log has brought the claim with this nonce, if it is one of ours."""
        _, verdict = self._verdicts.pop(nonce, (0, None))
        if verdict is not None and not verdict.done():
            verdict.set_result(has_won)

    def lost(self, partitions: Set[int]) -> None:
        """Tell those who wait for a verdict in partitions that belong to others now."""
        for nonce, (partition, verdict) in list(self._verdicts.items()):
            if partition in partitions:
                del self._verdicts[nonce]
                if not verdict.done():
                    verdict.set_exception(PartitionLost("the partition was lost before the claim was read back"))
