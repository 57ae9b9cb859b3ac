"""Address and subject come from the record itself: of each email, in a moment, and only while it is kept."""

import time

from api.view.bodies import Bodies
from mailstream.domain import codec, email_id
from mailstream.domain.recipient import canonical
from mailstream.domain.request import Address, EmailRequest
from mailstream.domain.status import Coordinates
from mailstream.settings import Settings
from tests.support.api import Worker, a_status

EMAILS = 24


async def test_every_record_is_read_from_where_it_lies_whatever_was_read_before(settings: Settings) -> None:
    worker, bodies, statuses = Worker(settings), Bodies(settings), []
    for number in range(EMAILS):
        id_ = email_id.new(canonical(f"user{number}@example.com"))
        partition = number * 3 % settings.partitions
        request = EmailRequest(id=id_, to=Address(f"user{number}@example.com"), subject=f"Order {number}", text="Hi")
        position = await worker.request(codec.encode(request), key=b"x", partition=partition)
        place = Coordinates(*position) if number % 3 else Coordinates(partition, 1000 + number)  # gone, in between
        statuses.append(a_status(id_, request=place))

    begun = time.monotonic()
    shown = [await bodies.shown(status) for status in statuses]

    assert [found and found.subject for found in shown] == [f"Order {n}" if n % 3 else None for n in range(EMAILS)]
    assert time.monotonic() - begun < EMAILS * 0.2, "a place is not waited for a second"
    await worker.close()
