"""Where the consequence of a provider's event is written."""

from unittest.mock import Mock

from msgspec import structs

from mailstream.clock import SystemClock
from mailstream.domain.status import EmailStatus, Status
from streams.core.webhook_health import FEW, YOUNGEST, WebhookHealth
from streams.intake.feedback import Feedback
from tests.support.builders import HOME, ID, PARTITIONS, a_record, a_status, an_event


def test_an_event_in_a_wrong_partition_changes_the_email_where_it_is() -> None:
    table = Mock(get_status=Mock(return_value=a_status(Status.SENT, 1)), partition_count=PARTITIONS)
    projection, done = Mock(), Mock()
    elsewhere = (HOME + 1) % PARTITIONS

    Feedback(table, projection, WebhookHealth(), SystemClock()).settle(
        a_record(an_event("delivered", id=ID), partition=elsewhere), done
    )

    after, partition, then = projection.put.call_args.args
    assert (after.status, partition, then) == (Status.DELIVERED, HOME, done)


def test_an_event_about_an_email_that_nobody_knows_is_done_with() -> None:
    projection, done = Mock(), Mock()

    Feedback(Mock(get_status=Mock(return_value=None)), projection, WebhookHealth(), SystemClock()).settle(
        a_record(an_event("delivered", id=ID)), done
    )

    projection.put.assert_not_called()
    done.assert_called_once()


def test_an_event_that_proves_by_itself_that_an_email_was_sent_counts_as_its_event() -> None:
    health, table = WebhookHealth(), Mock(partition_count=PARTITIONS)
    seen_at = 0.0

    def put(after: EmailStatus, *_: object) -> None:
        assert after.status is Status.SENT
        health.sent(after.id, seen_at)  # as the worker does when it sees the change

    feedback = Feedback(table, Mock(put=put), health, SystemClock())
    for number in range(FEW):
        seen_at = 1000.0 + 10 * number
        table.get_status.return_value = structs.replace(a_status(Status.PROCESSING, 1), id=f"{ID}{number}")
        feedback.settle(a_record(an_event("processed", id=f"{ID}{number}")), Mock())

    assert health.is_healthy(seen_at + YOUNGEST + 1)
