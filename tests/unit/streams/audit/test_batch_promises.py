"""What a strict batch promises: each of its items has a status once a worker has passed it."""

from collections import Counter

from mailstream.clock import moment
from mailstream.domain import email_id, topics
from mailstream.domain.recipient import canonical
from mailstream.domain.request import Address, Batch, EmailRequest
from streams.audit.report import Kind
from streams.core import fold
from tests.support.audited import ALL, verified
from tests.support.histories import START, Scene, a_clean_scene
from tests.support.history_logs import Record


def a_batch(scene: Scene, *addresses: str) -> tuple[Record, list[EmailRequest]]:
    """As the API writes it: each item has its id, and the sender of the account in ``from``."""
    sender = Address("post@example.org")
    items = [
        EmailRequest(
            to=Address(address), id=email_id.new(canonical(address)), from_=sender, subject="Hi", text="…", tenant="t"
        )
        for address in addresses
    ]
    return scene.append(topics.REQUESTED.name, 0, 50, Batch(items=tuple(items), id="b")), items


def be_asked(scene: Scene, item: EmailRequest) -> Record:
    assert item.id is not None
    return scene.append(topics.REQUESTED.name, scene.partition_of(item.id), 51, item)


def be_shown(scene: Scene, item: EmailRequest, asked: Record) -> None:
    assert item.id is not None
    queued = fold.queued(
        item,
        email_id=item.id,
        recipient=item.id[3:11],
        place=fold.Coordinates(asked.partition, asked.offset),
        at=moment(asked.at),
        writer="w/1",
    )
    scene.publish(queued, at=52)


def test_items_of_a_batch_wait_with_it_and_are_lost_one_by_one_when_it_was_passed() -> None:
    scene = a_clean_scene()
    batch, items = a_batch(scene, "ada@example.com", "bob@example.com", "cleo@example.com")
    be_shown(scene, items[0], be_asked(scene, items[0]))

    waits = verified(scene, passed=ALL._replace(requests=batch.offset))
    owed = verified(scene, passed=ALL)

    assert waits.holds, waits.findings
    assert waits.waiting["batches"] == 1
    assert [finding.about for finding in owed.findings] == [items[1].id, items[2].id]
    assert owed.found == {Kind.LOST: 2}
    assert f"the batch at email.requested 0/{batch.offset}" in owed.findings[0].what


def test_an_item_with_a_record_of_its_own_is_judged_by_that() -> None:
    scene = a_clean_scene()
    _, (item,) = a_batch(scene, "ada@example.com")
    asked = be_asked(scene, item)

    waits = verified(scene, passed=ALL._replace(requests=asked.offset))
    owed = verified(scene, passed=ALL)

    assert waits.holds, waits.findings
    assert [finding.about for finding in owed.findings] == [item.id], "told once"


def test_items_of_a_batch_that_was_refused_whole_are_named() -> None:
    """As a worker without SENDER did it, after another had unfolded the half."""
    scene = a_clean_scene()
    batch, items = a_batch(scene, "ada@example.com", "bob@example.com")
    be_shown(scene, items[0], be_asked(scene, items[0]))
    scene.dead_letter(batch, "SENDER_NOT_ALLOWED", at=53)

    report = verified(scene, passed=ALL)

    assert [finding.about for finding in report.findings] == [items[1].id]
    assert "SENDER_NOT_ALLOWED" in report.findings[0].what


def test_an_item_that_was_refused_and_shown_as_that_is_not_lost() -> None:
    scene = a_clean_scene()
    batch, (item,) = a_batch(scene, "ada@example.com")
    scene.dead_letter(batch, "SENDER_NOT_ALLOWED", at=53)
    assert item.id is not None
    rejected = fold.rejected(
        email_id=item.id,
        recipient=item.id[3:11],
        place=fold.Coordinates(0, batch.offset),
        at=moment(START + 53),
        reason="SENDER_NOT_ALLOWED",
        detail="no",
        writer="w/1",
    )
    scene.publish(rejected, at=54)

    assert verified(scene, passed=ALL).holds


def test_a_batch_that_was_asked_twice_is_one_promise() -> None:
    scene = a_clean_scene()
    batch, (_item,) = a_batch(scene, "ada@example.com")
    scene.append(topics.REQUESTED.name, 0, 60, batch.value)

    assert verified(scene, passed=ALL).found == {Kind.LOST: 1}


def test_without_committed_offsets_the_order_of_the_requests_tells() -> None:
    scene = Scene()
    scene.ask("ada@example.com", at=1)
    batch, (_, item) = a_batch(scene, "bob@example.com", "cleo@example.com")

    waits = verified(scene)
    scene.ask(_address_of(batch.partition), at=60)
    owed = verified(scene)

    assert waits.holds, waits.findings
    assert waits.waiting == Counter(batches=1)
    assert item.id in [finding.about for finding in owed.findings]


def _address_of(partition: int) -> str:
    scene = Scene()
    return next(
        f"{n}@example.com"
        for n in range(100)
        if scene.partition_of(email_id.new(canonical(f"{n}@example.com"))) == partition
    )
