"""I17: evidence that stands in ``email.events`` counts: what is proven accepted is neither sent again nor given up."""

from mailstream.domain.attempt import Instead
from tests.checker.blows import hitting
from tests.checker.said import Finding, Said
from tests.support.history import History

#: So long after an event stands in the log a worker may not have read it, on a busy machine.
READ_SECONDS = 2.0


def i17_evidence_counts(history: History) -> Said:
    """A claim behind evidence is excused only by a fault that kept its worker from reading it."""
    for id_, life in history.lives.items():
        events = history.events.get(id_, ())
        if not events:
            continue
        proven_at = min(record.at for record, _ in events)
        for attempt in life.won:
            is_call = attempt.claim.instead is None
            late = attempt.at - proven_at
            if not (is_call or attempt.claim.instead is Instead.UNCONFIRMED) or late <= READ_SECONDS:
                continue
            if any(hitting(history.blows, attempt.claim.worker, proven_at, attempt.at)):
                continue
            what = "claimed for another call" if is_call else "given up as UNCONFIRMED"
            yield Finding("I17", id_, f"was {what} {late:.1f} s after the provider's event about it stood in the log")
