"""A batch is remembered for as long as one of its emails is, in every order of their records."""

from datetime import UTC, datetime

from api.view.batches import Batches
from api.view.brief import Brief
from mailstream.domain.request import InBatch
from mailstream.domain.status import Status, rank_of

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)
BATCH = InBatch("em_1_b", "f")


def brief(batch: InBatch | None = BATCH, status: Status = Status.QUEUED) -> Brief:
    return Brief(tenant="t", recipient="00000001", status=status, rank=rank_of(status, 0), created_at=NOON,
                 updated_at=NOON, batch=batch)  # fmt: skip


def test_it_is_known_until_the_last_of_its_emails_goes() -> None:
    batches = Batches()
    batches.changed(b"em_1", None, brief())
    batches.changed(b"em_2", None, brief())
    batches.changed(b"em_3", None, brief(None))
    batches.changed(b"em_1", brief(), brief(status=Status.SENT))

    batches.changed(b"em_1", brief(status=Status.SENT), None)
    assert batches.fingerprint("em_1_b") == "f"

    batches.changed(b"em_2", brief(), None)
    assert batches.fingerprint("em_1_b") is None
    assert len(batches) == 0


def test_a_status_of_a_version_that_did_not_say_it_takes_the_email_out() -> None:
    batches = Batches()
    batches.changed(b"em_1", None, brief())

    batches.changed(b"em_1", brief(), brief(None))

    assert len(batches) == 0


def test_the_first_body_stands() -> None:
    batches = Batches()
    batches.changed(b"em_1", None, brief())
    batches.changed(b"em_2", None, brief(InBatch("em_1_b", "other")))

    assert batches.fingerprint("em_1_b") == "f"
