"""May a call start now, and why not: the dispatcher, the gate and the probes ask here and nowhere else."""

from dataclasses import dataclass
from typing import Protocol

from mailstream.kafka.broker_clock import BrokersClock
from mailstream.kafka.producer import Publisher
from streams.core.circuit_breaker import CircuitBreaker
from streams.faust_guards.app import GuardedApp
from streams.maintenance.topics_watch import TopicsWatch
from streams.statuses.table import StatusTable

UNACKNOWLEDGED_SECONDS = 5.0  #: a record that Kafka has not taken for so long: nothing more is claimed


class Barrier(Protocol):
    """Knows whether what stood unread was looked through."""

    def why_closed(self) -> str | None:
        """What is still to be looked through; None: nothing."""


@dataclass(slots=True, kw_only=True, eq=False)
class Clearance:
    """Asks each object that knows of something that forbids a call. ``partitions`` is set by the assignment."""

    app: GuardedApp
    topics_watch: TopicsWatch
    clock: BrokersClock
    barrier: Barrier
    publisher: Publisher
    table: StatusTable
    breaker: CircuitBreaker
    partitions: frozenset[int] = frozenset()  #: ours, and loaded

    def why_not(self) -> str | None:
        """Why no call may be claimed or started now; None: it may."""
        if self.app.is_draining:
            return "draining"
        if not self.partitions:
            return "no partition"
        if self._is_forgotten(self.app.membership_age()):  # another worker may own them by now
            return "membership not confirmed"
        return self.topics_watch.difference or self.clock.why_wrong()

    def why_no_claim(self) -> str | None:
        """The same, and: what cannot be recorded is not sent."""
        if why := self.why_not():
            return why
        is_unrecorded = self.publisher.oldest_seconds() > UNACKNOWLEDGED_SECONDS or self.table.unwritten()
        return "what cannot be recorded is not sent" if is_unrecorded else None

    def reasons(self) -> list[str]:
        """All that keeps this worker from sending, for people."""
        breaker = self.breaker.reason and f"{self.breaker.reason} ({self.breaker.detail or 'no reason given'})"
        all_that_may = (breaker, self.topics_watch.difference, self.clock.why_wrong(), self.barrier.why_closed())
        found = [f"nothing is sent: {why}" for why in all_that_may if why is not None]
        found += self.app.lost_logs.values()
        if (age := self.publisher.oldest_seconds()) > UNACKNOWLEDGED_SECONDS:
            found.append(f"Kafka has acknowledged nothing for {age:.0f} s")
        if (count := self.table.unwritten()) > 0:
            found.append(f"Kafka does not take {count} statuses: nothing is sent until it does")
        if self.partitions and self._is_forgotten(age := self.app.membership_age()):
            found.append(f"the group coordinator was not heard for {age:.0f} s: Kafka is away, or slow")
        return found

    def _is_forgotten(self, age: float) -> bool:
        """Whether the group may have given our partitions away since it last confirmed this member."""
        return age > self.app.mailstream_settings.session_timeout / 3
