"""Every call that reached the emulator, in the order in which it was taken or refused: what the checkers of guarantees believe."""

from collections import Counter, deque
from itertools import islice
from typing import Any

import msgspec
from msgspec import Raw, Struct

#: A call takes about 350 bytes; older ones are forgotten and counted.
MOST_CALLS = 1_000_000
_encode = msgspec.json.Encoder().encode


class Call(Struct, frozen=True, gc=False):
    """One call to mail/send."""

    seq: int  #: cursor for ``since``, counted from 1
    is_accepted: bool  #: SendGrid has the mail now, whatever became of the answer
    answer: str  #: the HTTP status, or what happened in its place: drop, reset, silent, slow, slow_body
    monotonic_ns: int  #: CLOCK_MONOTONIC of this machine at the request's first byte
    at: float  #: the same moment in seconds since 1970
    is_sandbox: bool = False
    id: str | None = None  #: custom arg ms_id
    attempt: int | None = None  #: custom arg ms_attempt
    nonce: str | None = None  #: custom arg ms_nonce
    message_id: str | None = None
    to: str | None = None  #: the first recipient, as written


class Ledger:
    """The calls, encoded at once to be small, and how many there were of each kind."""

    def __init__(self, most: int = MOST_CALLS) -> None:
        self._rows: deque[tuple[bool, bytes]] = deque(maxlen=most)
        self._seq = 0
        self._counts: Counter[str] = Counter()

    @property
    def next_seq(self) -> int:
        """The number of the call that is written next."""
        return self._seq + 1

    def write(self, call: Call) -> None:
        """Keep a call."""
        self._seq = call.seq
        if len(self._rows) == self._rows.maxlen:
            self._counts["forgotten"] += 1
        self._rows.append((call.is_accepted, _encode(call)))
        self._counts["calls"] += 1
        self._counts["accepted"] += call.is_accepted
        self._counts[call.answer] += 1

    def clear(self) -> None:
        """Forget all calls. The cursor goes on, so that nobody who follows misses one."""
        self._rows.clear()
        self._counts.clear()

    def page(self, *, since: int = 0, limit: int | None = None, with_refused: bool = False) -> dict[str, Any]:
        """Calls after the cursor, accepted ones only unless asked, with the next cursor and the counts."""
        first = self._seq - len(self._rows) + 1
        data: list[Raw] = []
        reached = max(since, first - 1)
        for is_accepted, row in islice(self._rows, reached + 1 - first, None):
            if len(data) == limit:
                break
            reached += 1
            if is_accepted or with_refused:
                data.append(Raw(row))
        return {
            "object": "list",
            "data": data,
            "next": reached,
            "has_more": reached < self._seq,
            "counts": dict(self._counts),
        }
