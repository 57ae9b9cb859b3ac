"""What the audit found: what was read, what was proven, what waits, what is broken."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

MOST_FINDINGS = 1000


class Kind(StrEnum):
    """What a finding is about. Closed: tools may switch on it."""

    LOST = "LOST"  #: a worker has passed it, and nothing came of it: no status, or no decision about a control
    DUPLICATE = "DUPLICATE"  #: more accepted calls than one and its marked resends
    NOT_THE_FOLD = "NOT_THE_FOLD"  #: the published status is not what the log says
    STALE = "STALE"  #: a former owner's older status is the last record
    NO_SAY = "NO_SAY"  #: an outcome of a call whose claim did not win
    GAP = "GAP"  #: two calls closer than the gap


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken promise."""

    kind: Kind
    about: str  #: email id, or coordinates
    what: str


@dataclass
class Report:
    """What was read and what was found."""

    seconds: float = 0.0
    emails: int = 0
    records: Counter[str] = field(default_factory=Counter)  #: per topic
    statuses: Counter[str] = field(default_factory=Counter)  #: published
    accepted: int = 0  #: calls that the provider took, as recorded
    marked: int = 0  #: of these, behind a claim marked possible_duplicate
    smallest_gap: float | None = None
    offsets_known: bool = True  #: the brokers said how far the workers have come; else the order of the log told it
    #: No worker has passed them: requests, controls, batches, events.
    waiting: Counter[str] = field(default_factory=Counter)
    behind: int = 0  #: emails whose status is an earlier one, and right once a worker takes what waits
    unsettled: int = 0  #: changed in the last seconds, so not judged
    not_judged: int = 0  #: their beginning is not in the topics
    found: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether every promise was kept."""
        return not self.found

    def add(self, kind: Kind, about: str, what: str) -> None:
        """Count a finding; the first ones are kept in full."""
        self.found[kind.value] += 1
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(Finding(kind, about, what))
