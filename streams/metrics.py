"""Every metric of the worker, and what a rise means. Labels are closed sets (contract §5)."""

from functools import cache

from prometheus_client import Counter, Gauge, Histogram

from mailstream.domain.status import Status
from streams.core.claims import Verdict

#: Emails that reached a status. FAILED or UNCONFIRMED rising: look at the provider's reasons.
EMAILS = Counter("mailstream_emails", "Emails that reached a status", ["status"])
#: Waiting emails. Rising: more is asked for than the gap lets out.
BACKLOG = Gauge("mailstream_backlog", "Emails that wait for their turn", ["lane"])
#: 0 where none is due.
OLDEST = Gauge("mailstream_oldest_waiting_seconds", "Age of the oldest email that is due", ["lane"])
#: Real distances between the starts of calls of this worker. Anything below SEND_GAP is a bug.
GAP = Histogram(
    "mailstream_send_gap_seconds",
    "Real gaps between the starts of two calls",
    buckets=(0.001, 0.01, 0.1, 0.5, 1, 1.5, 2, 2.01, 2.1, 2.5, 3, 5, 10, 30, 60, 300),
)
#: While several workers share the gap, each call takes a turn. Not rising while emails are due: claims take too long.
TURNS = Counter("mailstream_turns", "Turns that a call has taken")
PROVIDER_SECONDS = Histogram("mailstream_provider_seconds", "Duration of provider calls", ["code"])
#: Verdicts on records of email.attempts. LOST rising: two workers claim the same emails.
ATTEMPTS = Counter("mailstream_attempts", "Records of email.attempts, by what they meant", ["result"])
#: Emails whose outcome is unknown. Rising: workers die in calls, or the provider's answers get lost.
HELD = Gauge("mailstream_held", "Emails that are HELD")
DEAD_LETTERS = Counter("mailstream_dead_letters", "Records that could not be taken", ["reason"])
DUPLICATES = Counter("mailstream_duplicates", "Known emails asked for again; nothing is sent")
DUPLICATES_PROVEN = Counter("mailstream_duplicate_detected", "Two provider message ids for one email: an alarm")
LATE_EVIDENCE = Counter("mailstream_late_evidence", "Ended emails that turned out to have been accepted")
OWNED = Gauge("mailstream_partitions_owned", "Partitions that this worker owns")
#: 1 while nothing is sent for this reason.
PAUSED = Gauge("mailstream_paused", "Nothing is sent, for this reason", ["reason"])
#: Records that were deleted before they were read. Anything above 0: /readyz names them, and what to do.
LOST_RECORDS = Gauge("mailstream_lost_records", "Records that were deleted unread", ["topic", "partition"])
#: How far this machine's clock is off the brokers'. Beyond ±300 nothing is sent: look at NTP.
CLOCK_ERROR = Gauge("mailstream_clock_error_seconds", "Proven error of the wall clock against the brokers'")
ACCEPT_SECONDS = Histogram(
    "mailstream_accept_seconds",
    "From a request's time in the log to its durable QUEUED",
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300),
)
#: Rising while emails are accepted slowly, or not at all: the log says why.
LAG = Gauge("mailstream_consumer_lag", "Requests that are not acked yet", ["partition"])
LOAD_SECONDS = Gauge("mailstream_table_recovery_seconds", "Duration of the newest load of partitions")
EVENTS = Counter("mailstream_events", "Provider events, by kind", ["event"])
#: Kinds of provider events that have a label of their own; all others count as "other".
EVENT_KINDS = frozenset(
    [
        "processed",
        "deferred",
        "delivered",
        "bounce",
        "dropped",
        "spamreport",
        "unsubscribe",
        "group_unsubscribe",
        "group_resubscribe",
        "open",
        "click",
    ]
)
#: The children of EMAILS by status and of ATTEMPTS by verdict, looked up once: they are counted for every mail.
EMAILS_IN = {status: EMAILS.labels(status.value) for status in Status}
VERDICTS = {verdict: ATTEMPTS.labels(verdict.value) for verdict in Verdict}


def clock_looked(seconds: float, why: str | None) -> None:
    """This machine's clock was held against the brokers': its proven error, and why nothing is sent because of it."""
    CLOCK_ERROR.set(seconds)
    PAUSED.labels("clock").set(0 if why is None else 1)


@cache
def seconds_of(code: str) -> Histogram:
    """The child of PROVIDER_SECONDS for a code, looked up once."""
    return PROVIDER_SECONDS.labels(code)
