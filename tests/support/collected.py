"""The history of a real run, collected from its topics and the emulator's ledger."""

from collections.abc import Iterable
from typing import Any

import msgspec

from dev.sendgrid.ledger import Call
from mailstream.domain import topics
from mailstream.settings import Settings
from tests.support.history import History, Run
from tests.support.history_logs import Record, record
from tests.support.whole_topic import whole_topic

ABOUT_EMAILS = (topics.REQUESTED, topics.ATTEMPTS, topics.STATUS, topics.EVENTS, topics.REJECTED, topics.SUPPRESSIONS)


def collected(settings: Settings, ledger: Iterable[dict[str, Any]], **logs: Any) -> History:
    """Topics and ledger as they are now; what only the test knows (asks, lookups, faults, samples, …) in ``logs``.

    Hand in all calls of the ledger, the refused ones too.
    """
    run = logs.pop("run", None) or Run(
        gap_seconds=settings.send_gap,
        burst=settings.send_burst,
        session_timeout_seconds=settings.session_timeout,
        hold_timeout_seconds=settings.hold_timeout,
        retries=len(settings.retry_delays),
        most_age_seconds=settings.max_event_age,
        topic_prefix=settings.topic_prefix,
        broker=settings.kafka_bootstrap,
    )
    calls = tuple(msgspec.convert(row, Call) for row in ledger)
    return History(run=run, calls=calls, records=tuple(_records(settings)), **logs)


def _records(settings: Settings) -> Iterable[Record]:
    for topic in ABOUT_EMAILS:
        for message in whole_topic(settings, topic):
            headers: Any = message.headers() or ()
            yield record(
                topic.name,
                message.partition() or 0,
                message.offset() or 0,
                message.timestamp()[1],
                message.key(),
                message.value(),
                headers,
            )
