"""One email that waits for its turn."""

import math
from struct import Struct
from typing import Any, Self

from mailstream.domain.request import Lane
from mailstream.domain.status import EmailStatus

_LANES = tuple(Lane)
_NUMBER = {lane: number for number, lane in enumerate(_LANES)}
_PLACE = Struct(">QdIHB")  #: order, created, recipient, partition, lane
_TIMES = Struct(">dd")  #: due and expires, behind the place of an email that has one of them
_HAS_TIMES = 0x80  #: in the byte of the lane


def _member(number: int) -> Any:
    return property(lambda email: _PLACE.unpack_from(email)[number])


class Waiting(bytes):
    """Its place among the others. Times are seconds since 1970.

    One object of 112 bytes: a million of them may wait, and with a member for each number each would take 260 (ADR-0027).
    It compares by its first bytes, its order: that of the log, for two emails of one partition, however the brokers' clocks
    went. As a key it stands for its id, so an index by id needs no further object.
    """

    __slots__ = ()

    order: int = _member(0)  #: the offset of its request
    created: float = _member(1)  #: the brokers' time of its request
    recipient: int = _member(2)  #: the hash of its recipient. Two recipients that share one only wait for each other.
    partition: int = _member(3)  # type: ignore[assignment]  # of every record about it; no email is split as bytes are

    def __new__(
        cls,
        email_id: str,
        partition: int,
        recipient: int,
        lane: Lane,
        created: float,
        order: int,
        due: float = 0.0,
        expires: float | None = None,
    ) -> Self:
        """``due``: not before this, 0 when due since ever. ``expires``: None when never."""
        number, times = _NUMBER[lane], b""
        if due or expires is not None:
            number |= _HAS_TIMES
            times = _TIMES.pack(due, math.inf if expires is None else expires)
        return super().__new__(
            cls, _PLACE.pack(order, created, recipient, partition, number) + times + email_id.encode()
        )

    def __hash__(self) -> int:
        return hash(self.id)

    def __eq__(self, other: object) -> bool:
        return self is other or self.id == (other.id if isinstance(other, Waiting) else other)

    @property
    def id(self) -> str:
        """The email's id."""
        return self[_PLACE.size + _TIMES.size if self._has_times else _PLACE.size :].decode()

    @property
    def lane(self) -> Lane:
        """The lane that it was asked for in."""
        return _LANES[self[_PLACE.size - 1] & ~_HAS_TIMES]

    @property
    def due(self) -> float:
        """Not before this; 0 when due since ever."""
        return _TIMES.unpack_from(self, _PLACE.size)[0] if self._has_times else 0.0

    @property
    def expires(self) -> float | None:
        """From this moment on it must not be called any more; None: never so."""
        expires = _TIMES.unpack_from(self, _PLACE.size)[1] if self._has_times else math.inf
        return None if expires == math.inf else expires

    @property
    def _has_times(self) -> bool:
        return self[_PLACE.size - 1] >= _HAS_TIMES


def waiting(status: EmailStatus, partition: int) -> Waiting:
    """The place in the schedule of an email that is QUEUED or RETRYING."""
    return Waiting(
        status.id,
        partition,
        recipient=int(status.recipient, 16),
        lane=status.lane,
        created=status.created_at.timestamp(),
        order=status.order,
        due=status.due_at.timestamp() if status.due_at else 0.0,
        expires=status.expires_at.timestamp() if status.expires_at else None,
    )
