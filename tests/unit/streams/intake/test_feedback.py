"""Where the consequence of a provider's event is written."""

from unittest.mock import Mock

from mailstream.domain.status import Status
from streams.intake.feedback import Feedback
from tests.support.builders import HOME, ID, PARTITIONS, a_record, a_status, an_event


def test_an_event_in_a_wrong_partition_changes_the_email_where_it_is() -> None:
    table = Mock(get_status=Mock(return_value=a_status(Status.SENT, 1)), partition_count=PARTITIONS)
    projection, done = Mock(), Mock()
    elsewhere = (HOME + 1) % PARTITIONS

    Feedback(table, projection).handle(a_record(an_event("delivered", id=ID), partition=elsewhere), done)

    after, partition, then = projection.put.call_args.args
    assert (after.status, partition, then) == (Status.DELIVERED, HOME, done)


def test_an_event_about_an_email_that_nobody_knows_is_done_with() -> None:
    projection, done = Mock(), Mock()

    Feedback(Mock(get_status=Mock(return_value=None)), projection).handle(a_record(an_event("delivered", id=ID)), done)

    projection.put.assert_not_called()
    done.assert_called_once()
