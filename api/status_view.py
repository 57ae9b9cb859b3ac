"""A read replica of ``email.status`` in memory: the newest record of each email, by rank and never by arrival.

Values stay the compact bytes that came; a record is decoded when somebody asks for it.
"""

from collections.abc import Callable

import msgspec
from msgspec import Struct

from mailstream.codec import Undecodable, decode_status
from mailstream.status import EmailStatus

Watcher = Callable[[], None]


class _Offset(Struct):
    offset: int = -1


class _Order(Struct):
    """Just what decides between two records of one email (``status.order_of_merge``)."""

    rank: int
    request: _Offset | None = None
    control: int = -1

    def tuple(self) -> tuple[int, int, int]:
        return self.rank, self.request.offset if self.request else -1, self.control


_order = msgspec.json.Decoder(_Order)


class StatusView:
    """What is known of each email; ``apply`` takes the records of the topic in log order."""

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}
        self._watchers: dict[bytes, set[Watcher]] = {}

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: bytes) -> bool:
        return key in self._values

    def get(self, key: bytes) -> EmailStatus | None:
        """The status of the email with this id; a record that is none of ours shows nothing."""
        if (value := self._values.get(key)) is None:
            return None
        try:
            return decode_status(value)
        except Undecodable:
            return None

    def apply(self, key: bytes, value: bytes | None) -> None:
        """Take one record; a lower rank does not replace a higher one, a tombstone removes."""
        if value is None:
            if self._values.pop(key, None) is None:
                return
        elif not self._stands(self._values.get(key), value):
            return
        else:
            self._values[key] = value
        if watchers := self._watchers.get(key):
            for watcher in tuple(watchers):
                watcher()

    def watch(self, key: bytes, watcher: Watcher) -> None:
        """Call ``watcher`` after each change of this email."""
        self._watchers.setdefault(key, set()).add(watcher)

    def unwatch(self, key: bytes, watcher: Watcher) -> None:
        """Call it no more."""
        if watchers := self._watchers.get(key):
            watchers.discard(watcher)
            if not watchers:
                del self._watchers[key]

    @staticmethod
    def _stands(known: bytes | None, value: bytes) -> bool:
        """Whether the new record replaces the known one: the same rule as ``status.merge``, on two small parts."""
        if known is None:
            return True
        try:
            return _order.decode(value).tuple() >= _order.decode(known).tuple()
        except msgspec.DecodeError:
            return False
