"""What a check may say, and the times that it allows."""

from collections.abc import Iterator
from dataclasses import dataclass

#: The brokers' stamp has whole milliseconds and the emulator's clock is the same machine's: what is said to come after
#: something else may seem this much earlier.
STAMP_SECONDS = 0.005
#: So long after a blow to a process its last records may still get into the log: they lay in a socket.
SOCKET_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken promise."""

    invariant: str
    about: str  #: an email id, a partition, a process
    what: str

    def __str__(self) -> str:
        return f"{self.invariant} {self.about}: {self.what}"


class Apart(Finding):
    """Explained by a named fault: listed, not counted as broken."""


class Unjudged(Finding):
    """Cannot be judged: ``what`` says why, in words that are the same for all of one kind."""


Said = Iterator[Finding]
