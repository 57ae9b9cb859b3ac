"""Every metric of the worker, and what a rise means."""

from functools import cache

from prometheus_client import REGISTRY, Counter, Gauge, Histogram

from mailstream.domain.dead_letter import Reason
from mailstream.domain.request import Lane
from mailstream.domain.status import Status
from mailstream.metric_list import MetricList
from streams.core.claims import Verdict
from streams.core.trigger_result import TriggerResult

#: Kinds of provider events that have a label of their own; all others count as "other".
EVENT_KINDS = (
    "processed", "deferred", "delivered", "bounce", "dropped", "spamreport", "unsubscribe", "group_unsubscribe",
    "group_resubscribe", "open", "click",
)  # fmt: skip

LIST = MetricList(REGISTRY)
_declare = LIST.declare

EMAILS = _declare(
    Counter,
    "mailstream_emails",
    "Emails that reached a status. FAILED or UNCONFIRMED rises: look at the provider's reasons",
    status=tuple(Status),
)
BACKLOG = _declare(
    Gauge, "mailstream_backlog", "Emails that wait. A rise: more is asked for than the gap lets out", lane=tuple(Lane)
)
OLDEST = _declare(
    Gauge, "mailstream_oldest_waiting_seconds", "Age of the oldest email that is due; 0: none is", lane=tuple(Lane)
)
GAP = _declare(
    Histogram,
    "mailstream_send_gap_seconds",
    "Real gaps between the starts of two calls of this worker. One below `SEND_GAP` is a bug",
    buckets=(0.001, 0.01, 0.1, 0.5, 1, 1.5, 2, 2.01, 2.1, 2.5, 3, 5, 10, 30, 60, 300),
)
TURNS = _declare(
    Counter,
    "mailstream_turns",
    "Turns that a call has taken, while several workers share the gap. No rise while emails are due: claims take too long",
)
PROVIDER_SECONDS = _declare(
    Histogram,
    "mailstream_provider_seconds",
    "Duration of provider calls",
    code="HTTP status, or NeverLeft, CutOff, TimedOut, Garbled",
)
ATTEMPTS = _declare(
    Counter,
    "mailstream_attempts",
    "Records of `email.attempts`, by what they meant. LOST rises: two workers claim the same emails",
    result=tuple(Verdict),
)
HELD = _declare(
    Gauge,
    "mailstream_held",
    "Emails whose outcome is unknown. A rise: workers die in calls, or answers of the provider get lost",
)
DEAD_LETTERS = _declare(
    Counter, "mailstream_dead_letters", "Records that could not be taken: tell their producer", reason=tuple(Reason)
)
DUPLICATES = _declare(Counter, "mailstream_duplicates", "Known emails that were asked for again; nothing is sent")
DUPLICATES_PROVEN = _declare(
    Counter, "mailstream_duplicate_detected", "Two provider message ids for one email: an alarm"
)
LATE_EVIDENCE = _declare(
    Counter, "mailstream_late_evidence", "Emails that ended FAILED or UNCONFIRMED and turned out to have been accepted"
)
OWNED = _declare(Gauge, "mailstream_partitions_owned", "Partitions that this worker owns")
PAUSED = _declare(
    Gauge,
    "mailstream_paused",
    "1 while nothing is sent for this reason: the provider, changed topics, a wrong clock",
    reason=("trouble", "topics", "clock"),
)
LOST_RECORDS = _declare(
    Gauge,
    "mailstream_lost_records",
    "Records that were deleted unread. Above 0: `/readyz` names them, and what to do",
    topic="full name",
    partition="number",
)
CLOCK_ERROR = _declare(
    Gauge,
    "mailstream_clock_error_seconds",
    "Proven error of this machine's clock against the brokers'. Beyond ±300 nothing is sent: look at NTP",
)
ACCEPT_SECONDS = _declare(
    Histogram,
    "mailstream_accept_seconds",
    "From a request's time in the log to its durable QUEUED",
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300),
)
LAG = _declare(
    Gauge,
    "mailstream_consumer_lag",
    "Requests that are not acked yet. A rise: emails are accepted slowly, or not at all; the log says why",
    partition="number",
)
LOAD_SECONDS = _declare(Gauge, "mailstream_table_recovery_seconds", "Duration of the newest load of partitions")
EVENTS = _declare(
    Counter, "mailstream_events", "Events of the provider, by kind", event=(*EVENT_KINDS, "other", "unreadable")
)
DOMAIN_EVENTS = _declare(
    Counter,
    "mailstream_domain_events",
    "Domain events by what became of them. `failed`, `unreadable` rise: see the dead letters, their detail names the "
    "rule. `too_old`: a topic is replayed, or the workers were away longer than `MAX_EVENT_AGE`",
    result=tuple(TriggerResult),
)
RULES_UNUSABLE = _declare(
    Gauge,
    "mailstream_rules_unusable",
    "1 while changed rules or templates cannot be used: the old ones stay, and `mailstream triggers check` says why",
)
UNREADABLE = _declare(
    Gauge,
    "mailstream_topic_unreadable",
    "1 while a topic with domain events is missing, or may not be read",
    topic="full name",
)
#: The children of EMAILS by status and of ATTEMPTS by verdict, looked up once: they are counted for every mail.
EMAILS_IN = {status: EMAILS.labels(status) for status in Status}
VERDICTS = {verdict: ATTEMPTS.labels(verdict) for verdict in Verdict}


def clock_looked(seconds: float, why: str | None) -> None:
    """This machine's clock was held against the brokers': its proven error, and why nothing is sent because of it."""
    CLOCK_ERROR.set(seconds)
    PAUSED.labels("clock").set(0 if why is None else 1)


@cache
def seconds_of(code: str) -> Histogram:
    """The child of PROVIDER_SECONDS for a code, looked up once."""
    return PROVIDER_SECONDS.labels(code)
