"""Where another service's topic is begun by a group that never read it."""

from enum import StrEnum


class Start(StrEnum):
    """Where a topic is begun that the triggers never read before."""

    RECENT = "recent"  #: at MAX_EVENT_AGE: what is older sends nothing anyway
    EARLIEST = "earliest"  #: at its beginning, to count what is too old
    LATEST = "latest"  #: at its end: nothing that has happened is mailed
