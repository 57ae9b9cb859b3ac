"""An API that decides a cancel by a look-up: ``python -m tests.support.lookup_api api``.

It is the real API but for that: where its view says that an email waits, it shows the email as CANCELLED and says so, without
a claim in the log. The history checker must find what was cancelled and sent.
"""

from datetime import UTC, datetime

from msgspec import structs

from api import controls
from api.submit import Submit
from api.view.lookup import Lookup
from cli.main import main
from mailstream.domain import codec
from mailstream.domain.email_id import partition_in
from mailstream.domain.request import Control, ControlKind
from mailstream.domain.status import EmailStatus, Fact, Status, rank_of
from mailstream.domain.topics import REQUESTED, STATUS

decide = controls.decide


async def look_and_cancel(
    lookup: Lookup, submit: Submit, status: EmailStatus, control: Control
) -> tuple[bool, EmailStatus]:
    """Cancel what looks as if it waited; everything else goes the real way."""
    if control.kind is not ControlKind.CANCEL or status.status not in (Status.QUEUED, Status.RETRYING):
        return await decide(lookup, submit, status, control)
    now = datetime.now(UTC)
    cancelled = structs.replace(
        status,
        status=Status.CANCELLED,
        final=True,
        rank=rank_of(Status.CANCELLED, status.attempt),
        updated_at=now,
        timeline=(*status.timeline, Fact(at=now, status=Status.CANCELLED, attempt=status.attempt)),
    )
    await submit._append(
        submit._topic.removesuffix(REQUESTED.name) + STATUS.name,
        codec.encode(cancelled),
        key=status.id.encode(),
        partition=partition_in(status.id, submit._partitions),
        headers=codec.headers_of(cancelled),
    )
    return True, cancelled


if __name__ == "__main__":
    controls.decide = look_and_cancel
    main()
