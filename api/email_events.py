"""The timeline of one email as a stream of events, each numbered, so that a client can go on where it was."""

from collections.abc import Callable

from api.answers import entry
from api.event_stream import event
from api.lookup import Lookup
from mailstream.errors import NotCaughtUp
from mailstream.status import is_final


class EmailEvents:
    """Facts are numbered from 1 in the order of the timeline, those that it no longer shows included."""

    def __init__(self, lookup: Lookup, key: bytes, after: int) -> None:
        self._lookup, self._key, self._sent = lookup, key, after

    def take(self) -> bytes | None:
        """The facts that are new. None: the email is not kept any more."""
        try:
            status = self._lookup.known(self._key)
        except NotCaughtUp:
            return b""
        if status is None:
            return None
        count = len(status.timeline) + status.timeline_dropped
        fresh = max(0, min(count - self._sent, len(status.timeline)))
        self._sent = max(self._sent, count)
        facts = status.timeline[len(status.timeline) - fresh :]
        return b"".join(
            event(
                "status" if fact.status else "fact",
                entry(fact, is_final=fact.status is not None and is_final(fact.status)).model_dump_json().encode(),
                number,
            )
            for number, fact in enumerate(facts, start=count - fresh + 1)
        )

    def watch(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Wake for each change of the email."""
        self._lookup.watch(self._key, wake)
        return lambda: self._lookup.unwatch(self._key, wake)


def after_of(last_event_id: str | None) -> int:
    """The number of the last event that a client has; 0 when it has none, or names nonsense."""
    return int(last_event_id) if last_event_id and last_event_id.isascii() and last_event_id.isdecimal() else 0
