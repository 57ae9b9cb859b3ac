"""A read replica of ``email.status`` in memory: the newest record of each email, by rank and never by arrival.

Values stay the bytes that came, packed; a record is decoded when it is asked for.
"""

import msgspec

from api.view.brief import Brief, decode_brief
from mailstream.domain.codec import Undecodable, decode_status
from mailstream.domain.packed import unpack
from mailstream.domain.status import EmailStatus

#: What a record did to an email, before and after: None stands for unknown.
Change = tuple[Brief | None, Brief | None]


class StatusView:
    """What is known of each email; ``apply`` takes the records of the topic in log order."""

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: bytes) -> bool:
        return key in self._values

    def get(self, key: bytes) -> EmailStatus | None:
        """The status of the email with this id; a record that is none of ours shows nothing."""
        if (value := self._values.get(key)) is None:
            return None
        try:
            return decode_status(unpack(value))
        except Undecodable:
            return None

    def apply(self, key: bytes, value: bytes | None, packed: bytes) -> Change | None:
        """Take one record; a lower rank does not replace a higher one, a tombstone removes. None: nothing changed.

        ``packed`` is the value as it is kept.
        """
        known = self._values.get(key)
        before = None if known is None else decode_brief(unpack(known))
        if value is None:
            self._values.pop(key, None)
            return None if before is None else (before, None)
        try:
            after = decode_brief(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None  # a record that is none of ours
        if before is not None and after.order() < before.order():
            return None
        self._values[key] = packed
        return before, after
