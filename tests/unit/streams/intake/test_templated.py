"""Mails of templates on their way in: rendered elsewhere, in log order for each recipient, and held up by no other."""

import asyncio
import time
from dataclasses import replace
from unittest.mock import Mock

import pytest

from mailstream.domain import codec
from mailstream.domain.email_id import hash_in
from mailstream.domain.errors import TemplateError
from mailstream.domain.recipient import partition_of, recipient_hash
from mailstream.domain.request import Control, EmailRequest
from mailstream.domain.status import Coordinates, Status
from mailstream.domain.topics import REJECTED
from mailstream.settings import Settings
from mailstream.templates.catalog import Rendered
from streams.rendering import Rendering
from tests.support.builders import ADA, HASH, HOME, ID, PARTITIONS, a_control, a_record, a_request
from tests.support.desk import STATUS, Desk, accept_at, turns

#: Another recipient of the same partition.
BOB = next(
    to
    for to in (f"bob{n}@example.com" for n in range(100))
    if partition_of(recipient_hash(to), PARTITIONS) == HOME and recipient_hash(to) != HASH
)
BOBS = f"em_{recipient_hash(BOB):08x}_1"


def templated(to: str = ADA, template: str = "slow", **members: object) -> EmailRequest:
    return a_request(to, subject=None, text=None, template=template, data={"x": 1}, **members)


class Worker:
    """Takes records; the template ``slow`` is rendered when the test says so, and ``broken`` never."""

    def __init__(self) -> None:
        self.desk, self.tasks, self.bodies = Desk(), list[asyncio.Future[None]](), Mock()
        self.gate, self.renderings = asyncio.Event(), 0
        rendering = Rendering(Settings(partitions=PARTITIONS, _env_file=None))
        rendering.process.render = self.render  # type: ignore[method-assign,assignment]
        self.accept = accept_at(self.desk, self.tasks, rendering=rendering, bodies=self.bodies)
        self.done: list[int] = []

    async def render(self, template: str, data: object, locale: str | None) -> Rendered:
        self.renderings += 1
        if template == "slow":
            await self.gate.wait()
        if template == "broken":
            raise TemplateError("rendering took too long")
        return Rendered(f"subject of {template}", "text", None)

    async def read(self, record: EmailRequest | Control, offset: int) -> None:
        found = replace(a_record(record, offset=offset), timestamp_ms=int(time.time() * 1000))
        self.accept.handle(found, lambda: self.done.append(offset))
        await turns()

    def status(self, email_id: str) -> Status | None:
        status = self.desk.table.get_status(email_id)
        return None if status is None else status.status

    def kept(self) -> EmailRequest:
        (call,) = self.bodies.keep.call_args_list
        found = codec.decode_requested(call.args[1])
        assert isinstance(found, EmailRequest)
        return found


async def test_others_do_not_wait_for_a_slow_template() -> None:
    worker = Worker()
    await worker.read(templated(id=ID), 1)

    await worker.read(a_request(BOB, id=BOBS), 2)
    await worker.read(templated(BOB, "quick", id=BOBS[:-1] + "2"), 3)

    assert worker.status(BOBS) is worker.status(BOBS[:-1] + "2") is Status.QUEUED
    assert worker.status(ID) is None
    assert worker.done == []


async def test_a_recipients_mails_are_taken_in_log_order() -> None:
    worker = Worker()
    await worker.read(templated(id=ID), 1)
    second = f"em_{HASH:08x}_2"
    await worker.read(a_request(id=second), 2)
    assert worker.status(second) is None

    worker.gate.set()
    await turns()

    written = [codec.decode_status(value).id for topic, value, _ in worker.desk.appended if topic == STATUS]
    assert written == [ID, second]


async def test_a_word_about_a_mail_that_is_being_rendered_is_decided_behind_it() -> None:
    worker = Worker()
    await worker.read(templated(id=ID), 1)
    await worker.read(a_control(), 2)
    assert worker.desk.appended == []

    worker.gate.set()
    await turns()
    worker.desk.acknowledge(STATUS)
    await asyncio.sleep(0.05)

    [claim] = worker.desk.records()
    assert (claim.id, claim.instead, claim.control) == (ID, "CANCELLED", 2)


async def test_a_mail_that_is_asked_for_again_meanwhile_is_one_mail() -> None:
    worker = Worker()
    for offset in (1, 2):
        await worker.read(templated(id=ID), offset)

    worker.gate.set()
    await turns()

    status = worker.desk.table.get_status(ID)
    assert status is not None
    assert status.request == Coordinates(HOME, 1)
    assert worker.renderings == 1


async def test_what_does_not_render_is_a_dead_letter_and_harms_no_neighbour() -> None:
    worker = Worker()
    await worker.read(templated(template="broken", id=ID), 1)
    await worker.read(a_request(id=f"em_{HASH:08x}_2"), 2)
    worker.desk.acknowledge(REJECTED.name)
    await turns()

    assert worker.status(ID) is Status.REJECTED
    assert worker.status(f"em_{HASH:08x}_2") is Status.QUEUED
    status = worker.desk.table.get_status(ID)
    assert status is not None
    assert status.timeline[-1].detail == "TEMPLATE_FAILED: rendering took too long"


async def test_what_is_revoked_while_it_is_rendered_is_left_to_the_next_reading() -> None:
    worker = Worker()
    await worker.read(templated(id=ID), 1)
    await worker.read(a_control(), 2)

    await worker.accept.drain()
    worker.gate.set()
    await turns()
    assert (worker.status(ID), worker.desk.appended, worker.done) == (None, [], [])

    await worker.read(templated(id=ID), 1)
    assert worker.status(ID) is Status.QUEUED


async def test_the_body_that_is_kept_is_rendered_and_the_status_follows_from_the_record() -> None:
    worker = Worker()
    await worker.read(templated(template="quick", id=ID), 1)

    kept = worker.kept()
    assert (kept.subject, kept.text, kept.data, kept.id) == ("subject of quick", "text", {}, ID)
    status = worker.desk.table.get_status(ID)
    assert status is not None
    assert kept.fingerprint == status.fingerprint, "a copy that is carried forward is known as the same email"


@pytest.mark.parametrize("to", [ADA, BOB])
def test_the_recipients_are_neighbours(to: str) -> None:
    assert partition_of(recipient_hash(to), PARTITIONS) == HOME
    assert hash_in(f"em_{recipient_hash(to):08x}_1") == recipient_hash(to)
