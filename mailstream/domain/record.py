"""A record as it stands in a topic, whichever client has read it."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Record:
    """One record with its place. Of headers with the same name, the last one."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int  #: since 1970, by the broker's clock
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes]
